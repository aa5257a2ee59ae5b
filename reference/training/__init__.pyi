from .configs import (
    CONFIGS as CONFIGS,
    DEMO as DEMO,
)
from .convolutional import ConvolutionalConfig as ConvolutionalConfig
from .ensemble import Ensemble as Ensemble
from .model import (
    ModelConfig as ModelConfig,
    Transformer as Transformer,
)
from .modular import (
    ModularConfig as ModularConfig,
    Square as Square,
    squared_errors as squared_errors,
    train_modular as train_modular,
)
from .perceptron import (
    PERCEPTRONS as PERCEPTRONS,
    PerceptronConfig as PerceptronConfig,
    train_perceptron as train_perceptron,
)
from .randomness import (
    Draws as Draws,
    hashed_masks as hashed_masks,
    masks as masks,
)
from .recipes import (
    Recipe as Recipe,
    TransformerRecipe as TransformerRecipe,
)
from .tasks import (
    Task as Task,
    TaskConfig as TaskConfig,
    composition as composition,
    division as division,
    subtraction as subtraction,
)
from .train_config import (
    PRECISIONS as PRECISIONS,
    TrainConfig as TrainConfig,
)
from .trainer import (
    Engine as Engine,
    Evaluation as Evaluation,
    State as State,
    Trainer as Trainer,
    evaluations as evaluations,
    train as train,
)

__all__: list[str]
