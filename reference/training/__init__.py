"""What trains: tasks, model, trainers. It does not import probe."""
