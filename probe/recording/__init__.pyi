from .checks import differences as differences
from .files import (
    atomic_write as atomic_write,
    read_netcdf as read_netcdf,
    save as save,
    write_netcdf as write_netcdf,
)
from .journal import Journal as Journal
from .lines import journal_of as journal_of
from .lock import Lock as Lock
from .provenance import provenance_json as provenance_json
from .reading import load as load

__all__: list[str]
