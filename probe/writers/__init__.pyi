from .sending import send as send

__all__: list[str]
