from dataclasses import dataclass, field
from reference.tasks import TaskConfig
from reference.model import Config
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    task: TaskConfig = field(default_factory=TaskConfig)
    model: Config = field(default_factory=Config)
    steps: int = 2000
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 10
    batch_size: int = 512
    precision: str = "float32"
    def lr_at(self, step):
        return self.lr * min(1.0, step / self.warmup) if self.warmup else self.lr
