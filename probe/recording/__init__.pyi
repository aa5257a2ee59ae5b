from .files import (
    atomic_write as atomic_write,
    read_netcdf as read_netcdf,
    save as save,
    write_netcdf as write_netcdf,
)
from .journal import (
    Journal as Journal,
    differences as differences,
    journal_of as journal_of,
    load as load,
)
from .lock import Lock as Lock
from .provenance import provenance_json as provenance_json
from .records import Records as Records

__all__: list[str]
