"""Layout of tables: which columns count the steps, and which name the run and the split of a row."""
