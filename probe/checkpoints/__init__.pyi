from .measuring import over_checkpoints as over_checkpoints

__all__: list[str]
