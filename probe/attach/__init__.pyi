from .budget import (
    Budget as Budget,
    outside_core as outside_core,
)

__all__: list[str]
