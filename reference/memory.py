"""How many seeds a GPU holds."""

import torch

from reference.train import TrainConfig


def fitting(config: TrainConfig, device: torch.device) -> int:
    """About how many seeds fit: the free memory over what one seed takes in a trial of a step, not compiled."""
    from reference.ensemble import Ensemble  # takes seconds to import

    free = torch.cuda.mem_get_info(device)[0]
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        trial = Ensemble(config, [0], device=str(device), compiled=False)
        trial.advance(1)
        trial.evaluate()
    except torch.cuda.OutOfMemoryError:
        return 0
    return int(free // max(1, torch.cuda.max_memory_allocated(device) - before))


def too_many(config: TrainConfig, n: int, device: torch.device) -> str:
    """What to say when `n` seeds did not fit; what they took must be free again."""
    return (
        f"Expected {n} seeds to fit in the memory of one GPU together, came out of memory. About "
        f"{fitting(config, device)} would fit: ask for fewer --seeds at a time, or use more GPUs. What was recorded "
        "is kept."
    )
