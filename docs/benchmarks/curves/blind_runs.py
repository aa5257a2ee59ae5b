"""The runs of the blind set: `RUNS[name]` is a sentence about the run, and a function of the seed that builds it."""

from collections.abc import Callable

import numpy as np
import torch

import nets
import tasks
from trainer import Run, cosine_restarts, drops, exponential, train, triangles, warmup_cosine

RUNS: dict[str, tuple[str, Callable[[int], Run]]] = {}


def run(sentence: str) -> Callable[[Callable[[int], Run]], Callable[[int], Run]]:
    """Add a run under the name of its function."""

    def add(build: Callable[[int], Run]) -> Callable[[int], Run]:
        RUNS[build.__name__] = (sentence, build)
        return build

    return add


# ---- Groups ---------------------------------------------------------------------------------------------------------


@run("Addition modulo 11, one-hot MLP, AdamW with weight decay 1.")
def add_p11_mlp_wd1(seed: int) -> Run:
    return Run(nets.mlp(22, 128, 11), tasks.modular(11, 0.7, seed), weight_decay=1, lr=3e-3, n_steps=5000, every=5)


@run("Addition modulo 17, embeddings and one hidden layer, weight decay 1.")
def add_p17_embedding_wd1(seed: int) -> Run:
    data = tasks.modular(17, 0.6, seed, one_hot=False)
    return Run(nets.embedding_mlp(17, 32, 128), data, weight_decay=1, lr=3e-3, n_steps=5000, every=5)


@run("Multiplication modulo 23, one-hot MLP, weight decay 1.")
def multiply_p23_mlp_wd1(seed: int) -> Run:
    data = tasks.modular(23, 0.6, seed, operation="*")
    return Run(nets.mlp(46, 128, 23), data, weight_decay=1, lr=3e-3, n_steps=5000, every=5)


@run("Addition modulo 29, embeddings, weight decay 1, 70 % of the pairs.")
def add_p29_embedding_wd1(seed: int) -> Run:
    data = tasks.modular(29, 0.7, seed, one_hot=False)
    return Run(nets.embedding_mlp(29, 32, 128), data, weight_decay=1, lr=3e-3, n_steps=5000, every=5)


@run("Addition modulo 31, one-hot MLP, no weight decay; accuracies in percent.")
def add_p31_mlp_wd0_percent(seed: int) -> Run:
    return Run(nets.mlp(62, 128, 31), tasks.modular(31, 0.5, seed), lr=3e-3, percent=True, n_steps=5000, every=5)


@run("Addition modulo 41, one-hot MLP, weight decay 0.3.")
def add_p41_mlp_wd03(seed: int) -> Run:
    return Run(nets.mlp(82, 96, 41), tasks.modular(41, 0.5, seed), weight_decay=0.3, lr=5e-3, n_steps=5000, every=5)


@run("Addition modulo 37, transformer of one block, weight decay 1.")
def add_p37_transformer_wd1(seed: int) -> Run:
    model = nets.Transformer(37, 2, 32, last=True)
    return Run(model, tasks.modular(37, 0.6, seed, one_hot=False), weight_decay=1, lr=3e-3, n_steps=2400, every=3)


@run("Subtraction modulo 13, transformer of one block, weight decay 1; accuracies in percent.")
def subtract_p13_transformer_percent(seed: int) -> Run:
    data = tasks.modular(13, 0.7, seed, operation="-", one_hot=False)
    model = nets.Transformer(13, 2, 32, last=True)
    return Run(model, data, weight_decay=1, lr=3e-3, percent=True, n_steps=4000, every=4)


@run("Subtraction modulo 29, squared error, quadratic activation, weight decay 0.3.")
def subtract_p29_mse_square(seed: int) -> Run:
    data = tasks.with_one_hot_targets(tasks.modular(29, 0.6, seed, operation="-"), 29)
    model = nets.mlp(58, 128, 29, activation="square")
    return Run(model, data, loss="mse", weight_decay=0.3, lr=5e-3, n_steps=5000, every=5)


@run("Addition modulo 23 with 20 % of the pairs.")
def add_p23_mlp_few(seed: int) -> Run:
    return Run(nets.mlp(46, 128, 23), tasks.modular(23, 0.2, seed), weight_decay=1, lr=3e-3, n_steps=5000, every=5)


@run("Addition modulo 31 with 300 steps at a low learning rate.")
def add_p31_short(seed: int) -> Run:
    data = tasks.modular(31, 0.5, seed, one_hot=False)
    return Run(nets.embedding_mlp(31, 32, 128), data, lr=3e-4, weight_decay=1, n_steps=300, every=1)


@run("Addition modulo 17, embeddings, Adam at learning rate 0.02 without weight decay.")
def add_p17_embedding_high_lr(seed: int) -> Run:
    data = tasks.modular(17, 0.6, seed, one_hot=False)
    return Run(nets.embedding_mlp(17, 32, 128), data, optimiser="adam", lr=0.02, n_steps=3000)


@run("Addition modulo 19 with shuffled answers, weight decay 1.")
def add_p19_shuffled(seed: int) -> Run:
    data = tasks.with_shuffled_answers(tasks.modular(19, 0.6, seed), seed)
    return Run(nets.mlp(38, 128, 19), data, weight_decay=1, lr=3e-3, n_steps=5000, every=5)


@run("Composition in S4, one-hot MLP, weight decay 1.")
def s4_mlp_wd1(seed: int) -> Run:
    return Run(nets.mlp(48, 128, 24), tasks.permutations(4, 0.6, seed), weight_decay=1, lr=3e-3, n_steps=5000, every=5)


# ---- Parity ---------------------------------------------------------------------------------------------------------


@run("Parity of 3 of 20 bits, width 64, hinge loss, SGD with momentum.")
def parity_3_of_20_hinge(seed: int) -> Run:
    data = tasks.sparse_parity(20, 3, 500, seed)
    settings = {"optimiser": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "batch": 100}
    return Run(nets.mlp(20, 64, 1), data, loss="hinge", n_steps=3000, every=3, **settings)


@run("Parity of 3 of 30 bits, width 256, binary cross-entropy, weight decay 1.")
def parity_3_of_30_wide(seed: int) -> Run:
    data = tasks.sparse_parity(30, 3, 500, seed)
    return Run(nets.mlp(30, 256, 1), data, loss="bce", weight_decay=1, lr=3e-3, n_steps=4000, every=4)


@run("Parity of 4 of 12 bits, width 128, binary cross-entropy, no weight decay.")
def parity_4_of_12(seed: int) -> Run:
    return Run(nets.mlp(12, 128, 1), tasks.sparse_parity(12, 4, 600, seed), loss="bce", lr=3e-3, n_steps=2400, every=3)


@run("Parity of 3 of 24 bits with new examples at each step, SGD.")
def parity_3_of_24_online(seed: int) -> Run:
    def fresh(step: int) -> tasks.Data:
        return tasks.sparse_parity(24, 3, 64, seed + 1 + step, n_test=0)[0]

    data = tasks.sparse_parity(24, 3, 64, seed)
    settings = {"optimiser": "sgd", "lr": 0.1, "fresh": fresh, "log_batch": True}
    return Run(nets.mlp(24, 128, 1), data, loss="bce", n_steps=6000, every=6, **settings)


@run("Parity of 3 of 20 bits, 15 % wrong answers in training, weight decay 0.5.")
def parity_3_of_20_noise15(seed: int) -> Run:
    data = tasks.sparse_parity(20, 3, 600, seed, noise=0.15)
    return Run(nets.mlp(20, 128, 1), data, loss="bce", weight_decay=0.5, lr=3e-3, n_steps=4000, every=4)


# ---- Digits ---------------------------------------------------------------------------------------------------------


@run("Digits, 10 % random labels, narrow MLP.")
def digits_noise10_narrow(seed: int) -> Run:
    return Run(nets.mlp(64, 16, 10), tasks.bundled("digits", 500, 600, seed, noise=0.1), batch=100, lr=3e-3)


@run("Digits, 20 % random labels, wide MLP, squared error, Adam.")
def digits_noise20_wide_mse(seed: int) -> Run:
    data = tasks.with_one_hot_targets(tasks.bundled("digits", 300, 400, seed, noise=0.2), 10)
    return Run(nets.mlp(64, 400, 10), data, loss="mse", optimiser="adam", batch=100, lr=1e-3, n_steps=6000, every=6)


@run("Digits, 40 % random labels, wide MLP, SGD with momentum.")
def digits_noise40_wide_sgd(seed: int) -> Run:
    data = tasks.bundled("digits", 400, 400, seed, noise=0.4)
    settings = {"optimiser": "sgd", "lr": 0.03, "momentum": 0.9, "batch": 80}
    return Run(nets.mlp(64, 300, 10), data, n_steps=5000, every=5, **settings)


@run("Digits, 60 % random labels, wide MLP, strong weight decay.")
def digits_noise60_wide_wd(seed: int) -> Run:
    data = tasks.bundled("digits", 400, 400, seed, noise=0.6)
    return Run(nets.mlp(64, 300, 10), data, weight_decay=2, lr=2e-3, n_steps=3000, every=3)


@run("Digits, 30 % random labels, small convolutional network.")
def digits_noise30_cnn(seed: int) -> Run:
    return Run(
        nets.cnn(12), tasks.bundled("digits", 400, 300, seed, noise=0.3), batch=50, lr=3e-3, n_steps=5000, every=10
    )


@run("Digits, clean labels, small convolutional network.")
def digits_cnn(seed: int) -> Run:
    return Run(nets.cnn(8), tasks.bundled("digits", 600, 400, seed), batch=60, lr=2e-3, n_steps=1500, every=5)


@run("Digits, batch norm, 20 % random labels; the training loss is that of each batch.")
def digits_batch_norm_per_batch(seed: int) -> Run:
    data = tasks.bundled("digits", 500, 400, seed, noise=0.2)
    settings = {"optimiser": "sgd", "lr": 0.1, "momentum": 0.9, "log_batch": True}
    return Run(nets.mlp(64, 100, 100, 10, batch_norm=True), data, batch=32, n_steps=1500, every=1, **settings)


@run("Digits, SGD with two drops of the learning rate.")
def digits_lr_drops(seed: int) -> Run:
    data = tasks.bundled("digits", 500, 400, seed)
    settings = {"optimiser": "sgd", "lr": 0.3, "batch": 25, "schedule": drops(0.4, 0.7)}
    return Run(nets.mlp(64, 50, 10), data, n_steps=2000, every=4, **settings)


@run("Digits, warm-up and cosine, per-batch training loss; test loss of 64 random test examples at each row.")
def digits_warmup_cosine_test_batch(seed: int) -> Run:
    data = tasks.bundled("digits", 600, 600, seed)
    settings = {"schedule": warmup_cosine, "batch": 32, "log_batch": True, "test_batch": 64, "lr": 5e-3}
    return Run(nets.mlp(64, 100, 10, activation="gelu"), data, n_steps=1500, every=2, **settings)


@run("Digits, six triangles of the learning rate, 20 % random labels.")
def digits_noise20_cyclic(seed: int) -> Run:
    data = tasks.bundled("digits", 400, 400, seed, noise=0.2)
    settings = {"optimiser": "sgd", "lr": 0.5, "batch": 50, "schedule": triangles(6)}
    return Run(nets.mlp(64, 60, 10), data, n_steps=2400, every=4, **settings)


@run("Digits, cosine with four restarts, Adam.")
def digits_restarts(seed: int) -> Run:
    settings = {"optimiser": "adam", "lr": 1e-2, "batch": 50, "schedule": cosine_restarts(4)}
    return Run(nets.mlp(64, 60, 10), tasks.bundled("digits", 300, 400, seed), n_steps=1600, every=2, **settings)


@run("Digits, 30 test examples, small batches.")
def digits_test30(seed: int) -> Run:
    settings = {"optimiser": "sgd", "lr": 0.05, "batch": 10}
    return Run(nets.mlp(64, 40, 10), tasks.bundled("digits", 200, 30, seed), n_steps=1500, every=1, **settings)


@run("Digits, shuffled training labels.")
def digits_shuffled(seed: int) -> Run:
    data = tasks.with_shuffled_answers(tasks.bundled("digits", 300, 400, seed), seed)
    return Run(nets.mlp(64, 200, 10), data, batch=100, n_steps=2400, every=3)


@run("Digits, learning rate 1e-5.")
def digits_low_lr(seed: int) -> Run:
    data = tasks.bundled("digits", 400, 400, seed)
    return Run(nets.mlp(64, 40, 40, 10), data, lr=1e-5, batch=100, n_steps=1200, every=2)


@run("Digits, deep ReLU network, Adam, learning rate that grows to 3,000 times its first value.")
def digits_growing_lr(seed: int) -> Run:
    settings = {"optimiser": "adam", "lr": 1e-4, "schedule": exponential(3000), "batch": 50}
    return Run(nets.mlp(64, *[48] * 5, 10), tasks.bundled("digits", 400, 400, seed), n_steps=1600, every=2, **settings)


@run("Digits, deep ReLU network, Adam at learning rate 0.02, small batches.")
def digits_deep_high_lr(seed: int) -> Run:
    settings = {"optimiser": "adam", "lr": 0.02, "batch": 20}
    return Run(nets.mlp(64, *[40] * 6, 10), tasks.bundled("digits", 400, 300, seed), n_steps=2400, every=3, **settings)


@run("Digits, network pre-trained on digits turned upside down, fine-tuned on 100 upright ones.")
def digits_fine_tuned(seed: int) -> Run:
    data, model = tasks.bundled("digits", 100, 500, seed), nets.mlp(64, 100, 10)
    train(Run(model, tasks.upside_down(tasks.bundled("digits", 1000, 100, seed)), n_steps=400, every=400), seed)
    return Run(model, data, lr=5e-4, n_steps=800, every=1)


@run("Digits, network pre-trained on clean labels, fine-tuned on 150 examples with 40 % random labels.")
def digits_fine_tuned_noise40(seed: int) -> Run:
    data, model = tasks.bundled("digits", 150, 500, seed, noise=0.4), nets.mlp(64, 100, 10)
    train(Run(model, tasks.bundled("digits", 800, 100, seed + 1), n_steps=300, every=300, lr=3e-3), seed)
    return Run(model, data, optimiser="sgd", lr=0.05, n_steps=1500, every=1)


@run("Digits, 200 examples, initial parameters eight times as large, squared error, weight decay 0.3.")
def digits_large_start(seed: int) -> Run:
    data = tasks.with_one_hot_targets(tasks.bundled("digits", 200, 400, seed), 10)
    return Run(nets.mlp(64, 200, 10, scale=8), data, loss="mse", weight_decay=0.3, lr=3e-3, n_steps=4000, every=4)


@run("Digits, autoencoder with 8 units.")
def digits_autoencoder(seed: int) -> Run:
    data = tasks.with_inputs_as_targets(tasks.bundled("digits", 300, 300, seed))
    return Run(nets.mlp(64, 64, 8, 64, 64), data, loss="mse", accuracy=False, lr=2e-3, n_steps=2400, every=3)


# ---- Tables ---------------------------------------------------------------------------------------------------------


@run("Iris, 40 test examples, MLP, 20 % random labels; accuracies in percent.")
def iris_noise20_test40_percent(seed: int) -> Run:
    settings = {"batch": 22, "lr": 5e-3, "percent": True}
    return Run(nets.mlp(4, 50, 3), tasks.bundled("iris", 110, 40, seed, noise=0.2), n_steps=2500, **settings)


@run("Wine, logistic regression, full batch.")
def wine_logistic(seed: int) -> Run:
    return Run(nets.mlp(13, 3), tasks.bundled("wine", 100, 78, seed), optimiser="sgd", lr=0.3, n_steps=1000, every=1)


@run("Breast cancer, MLP, binary cross-entropy, 100 test examples.")
def cancer_mlp_test100(seed: int) -> Run:
    data = tasks.bundled("breast_cancer", 200, 100, seed, binary=True)
    return Run(nets.mlp(30, 64, 1), data, loss="bce", batch=20, lr=2e-3, n_steps=2000)


@run("Diabetes, MLP with dropout and weight decay, warm-up and cosine.")
def diabetes_dropout_cosine(seed: int) -> Run:
    data = tasks.bundled("diabetes", 250, 192, seed)
    settings = {"schedule": warmup_cosine, "weight_decay": 0.5, "lr": 5e-3}
    return Run(nets.mlp(10, 64, 1, dropout=0.3), data, loss="mse", batch=50, n_steps=1500, **settings)


@run("Two moons, hinge loss, 60 test examples.")
def moons_hinge_test60(seed: int) -> Run:
    settings = {"optimiser": "sgd", "lr": 0.1, "momentum": 0.9}
    return Run(nets.mlp(2, 100, 1), tasks.two_moons(60, 60, 0.3, seed), loss="hinge", n_steps=2500, **settings)


# ---- Regression on made data ----------------------------------------------------------------------------------------


def gradient_descent(data: tasks.Split, *, n_steps: int, every: int, share: float = 0.9) -> Run:
    """Linear regression, with a share of the largest stable learning rate."""
    inputs = data[0][0]
    largest = torch.linalg.matrix_norm(inputs, 2).square() * 2 / len(inputs)  # the largest curvature
    settings = {"optimiser": "sgd", "lr": share * 2 / largest.item()}
    return Run(nets.linear(inputs.shape[1]), data, loss="mse", n_steps=n_steps, every=every, **settings)


@run("Linear regression, 80 strong and 20 weak features, 120 examples, gradient descent.")
def linear_two_scales(seed: int) -> Run:
    scales, weights = np.r_[np.ones(80), np.full(20, 0.1)], np.r_[np.full(80, 0.1), np.full(20, 0.5)]
    return gradient_descent(tasks.linear(120, scales, weights, 0.2, seed), n_steps=10_000, every=10)


@run("Linear regression, 150 features with scales from 1 to 0.03, 100 examples, gradient descent.")
def linear_power_law(seed: int) -> Run:
    scales = np.geomspace(1, 0.03, 150)
    return gradient_descent(tasks.linear(100, scales, np.full(150, 0.1), 0.5, seed), n_steps=10_000, every=10)


@run("Linear regression, 60 equal features, 60 examples with noise, gradient descent.")
def linear_square(seed: int) -> Run:
    data = tasks.linear(60, np.ones(60), np.full(60, 0.15), 0.7, seed)
    return gradient_descent(data, n_steps=5000, every=5)


@run("Linear regression, three scales of features, 150 examples, gradient descent.")
def linear_three_scales(seed: int) -> Run:
    scales = np.repeat([1, 0.15, 0.03], [70, 40, 20])
    weights = np.repeat([0.1, 0.3, 0.5], [70, 40, 20])
    return gradient_descent(tasks.linear(150, scales, weights, 0.1, seed), n_steps=20_000, every=20)


@run("150 random ReLU features, 150 examples with noise, gradient descent.")
def random_features_critical(seed: int) -> Run:
    return gradient_descent(tasks.random_features(150, 150, 0.5, seed), n_steps=20_000, every=20)


@run("Linear regression at a learning rate just above the stable one.")
def linear_diverges(seed: int) -> Run:
    data = tasks.linear(200, np.geomspace(1, 0.1, 30), np.full(30, 0.3), 0.3, seed)
    return gradient_descent(data, n_steps=1000, every=1, share=1.06)


@run("Deep linear network, four layers, small start, singular values 4, 2, 1, 0.5.")
def deep_linear_stages(seed: int) -> Run:
    data = tasks.deep_linear_map(300, [4, 2, 1, 0.5], 0.1, seed)
    model = nets.mlp(16, 16, 16, 16, 16, activation="none", scale=0.5)
    settings = {"optimiser": "sgd", "lr": 0.03, "accuracy": False}
    return Run(model, data, loss="mse", n_steps=8000, every=8, **settings)


@run("Deep linear network, three layers, 20 examples with noise.")
def deep_linear_few(seed: int) -> Run:
    data = tasks.deep_linear_map(20, [3, 1.5, 0.7], 0.5, seed)
    model = nets.mlp(16, 32, 32, 16, activation="none", scale=0.7)
    settings = {"optimiser": "sgd", "lr": 0.03, "accuracy": False}
    return Run(model, data, loss="mse", n_steps=8000, every=8, **settings)


@run("Teacher and student, new examples at each step, SGD.")
def teacher_online(seed: int) -> Run:
    (inputs, targets), test = tasks.teacher(40_000, 6, 0.1, seed)

    def fresh(step: int) -> tasks.Data:
        rows = slice(step % 2000 * 20, (step % 2000 + 1) * 20)
        return inputs[rows], targets[rows]

    settings = {"optimiser": "sgd", "lr": 0.03, "fresh": fresh, "log_batch": True}
    return Run(nets.mlp(15, 30, 1), ((inputs, targets), test), loss="mse", n_steps=2000, every=2, **settings)


@run("Teacher and student, 100 examples with noise, wide student, Adam.")
def teacher_few_wide(seed: int) -> Run:
    data = tasks.teacher(100, 4, 0.5, seed)
    return Run(nets.mlp(15, 300, 1), data, loss="mse", optimiser="adam", lr=2e-3, n_steps=3000, every=3)


@run("Teacher and student, 150 examples, SGD with a warm-up to a learning rate that is too high.")
def teacher_diverges(seed: int) -> Run:
    settings = {"optimiser": "sgd", "lr": 1e-3, "momentum": 0.9, "schedule": exponential(2000)}
    return Run(
        nets.mlp(15, 100, 100, 1), tasks.teacher(150, 4, 0.3, seed), loss="mse", n_steps=1000, every=1, **settings
    )


# ---- Sequences ------------------------------------------------------------------------------------------------------


@run("Copying of 5 symbols, GRU.")
def copy_gru(seed: int) -> Run:
    model = nets.Recurrent("GRU", 7, 48, 7)
    return Run(model, tasks.copying(300, 5, seed), batch=50, lr=5e-3, n_steps=1500, every=4)


@run("Running parity of 10 bits, simple RNN.")
def running_parity_rnn(seed: int) -> Run:
    model = nets.Recurrent("RNN", 2, 32, 2)
    return Run(model, tasks.running_parity(200, 10, seed), batch=50, lr=2e-3, n_steps=2000, every=4)


@run("Running parity of 12 bits, GRU, 60 examples; accuracies in percent.")
def running_parity_gru_few_percent(seed: int) -> Run:
    model = nets.Recurrent("GRU", 2, 32, 2)
    return Run(model, tasks.running_parity(60, 12, seed), lr=3e-3, n_steps=1500, every=3, percent=True)


@run("Text of a Markov chain, transformer of one block, 40 sequences; no accuracies.")
def text_transformer_few(seed: int) -> Run:
    model = nets.Transformer(12, 16, 32, last=False)
    return Run(model, tasks.markov_text(40, 16, seed), batch=20, lr=2e-3, n_steps=1500, every=3, accuracy=False)


@run("Text of a Markov chain, LSTM, per-batch training loss, test loss of 10 random sequences; no accuracies.")
def text_lstm_test_batch(seed: int) -> Run:
    model, settings = nets.Recurrent("LSTM", 12, 32, 12), {"log_batch": True, "test_batch": 10, "accuracy": False}
    return Run(model, tasks.markov_text(200, 16, seed), batch=20, lr=3e-3, n_steps=1200, every=2, **settings)
