from .checks import differences as differences
from .digest import add_digest as add_digest, has_digest as has_digest, read_checked as read_checked
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
