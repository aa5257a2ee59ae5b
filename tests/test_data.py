"""What the data means: shared arguments, the measured output, the positions of targets, and padding."""

import dataclasses
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import built, seeded
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from probe import (
    OUTPUT,
    ActivationsProbe,
    LMNProbe,
    LocalComplexityProbe,
    MutualInfoProbe,
    NeuralCollapseProbe,
    PerformanceProbe,
    ProbeSet,
    RobustnessProbe,
    Snapshot,
    Tap,
    shared,
)
from probe.errors import ProbeWarning
from probe.forward import read_data, reduce_output, score_rows, trace

N = 16
Y = torch.arange(N) % 3


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(N, *shape, generator=seeded(seed))


# -- arguments that all inputs share ---------------------------------------------------------------------------------


class Graph(nn.Module):
    """Two layers on the nodes of a graph, whose adjacency matrix is an argument or a buffer."""

    def __init__(self, adjacency: Tensor | None = None) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.register_buffer("adjacency", adjacency)

    def forward(self, x: Tensor, adjacency: Tensor | None = None) -> Tensor:
        adjacency = self.adjacency if adjacency is None else adjacency
        z = torch.relu(self.first(adjacency @ x))
        return self.head(torch.relu(self.second(adjacency @ z)).mean(1))


@pytest.mark.parametrize("nodes", [5, N])
def test_a_shared_argument_gives_the_numbers_of_the_model_that_holds_it(nodes: int) -> None:
    """Also if it has as many rows as there are inputs."""
    x, adjacency = rows(nodes, 4), torch.rand(nodes, nodes, generator=seeded(1)) / nodes
    probes = [LocalComplexityProbe(max_rows=600), LMNProbe(max_samples=6), RobustnessProbe(), ActivationsProbe()]
    inside, given = Graph(adjacency), Graph()
    given.load_state_dict(inside.state_dict(), strict=False)
    expected = ProbeSet(probes).fit(inside, (x, Y)).series_.drop_vars("seconds")
    for inputs in ((x, shared(adjacency)), {"x": x, "adjacency": shared(adjacency.numpy())}):
        found = ProbeSet(probes).fit(given, (inputs, Y)).series_.drop_vars("seconds")
        for name in expected.data_vars:
            torch.testing.assert_close(
                torch.as_tensor(found[name].values), torch.as_tensor(expected[name].values), equal_nan=True
            )


class Mixed(nn.Module):
    """One product with an adjacency matrix, which any number of its rows allows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(adjacency @ x))).mean(1)


def test_a_square_argument_that_is_cut_by_mistake_is_a_warning_or_an_error() -> None:
    x, adjacency = rows(N, 4), torch.rand(N, N, generator=seeded(1)) / N
    with pytest.warns(ProbeWarning, match=r"not to depend on the other inputs .*split 'all'.*probe\.shared\(x\)"):
        PerformanceProbe().attach(Mixed(), ((x, adjacency), Y))
    with pytest.raises(ValueError, match=r"Mark an argument that all inputs share: probe\.shared\(x\)"):
        PerformanceProbe().attach(Graph(), ((x, adjacency), Y))


def test_cut_arguments_that_add_up_are_a_warning() -> None:
    """Positions that are looked up and summed over, for as many inputs as there are positions."""

    class Positions(nn.Module):
        def forward(self, x: Tensor, at: Tensor) -> Tensor:
            return x + at.float().mean()

    with pytest.warns(ProbeWarning, match="not to depend on the other inputs"):
        PerformanceProbe().attach(Positions(), ((rows(3), torch.arange(N)), Y))
    series = PerformanceProbe().fit(Positions(), ((rows(3), shared(torch.arange(N))), Y)).series_
    assert series["all_loss"].item() == pytest.approx(F.cross_entropy(rows(3), Y).item(), rel=1e-5)


def test_the_output_of_a_batch_norm_without_statistics_depends_on_the_batch() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.warns(ProbeWarning, match="measurements depend on batch_size"):
        PerformanceProbe().attach(model, (rows(4), Y))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


def test_a_random_output_is_no_sign_of_a_dependence_on_the_batch() -> None:
    PerformanceProbe().attach(Noisy(), (rows(3), Y))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            (rows(4), torch.eye(7)),
            r"each of 16 inputs in every tensor of data, got argument 1 of shape \(7, 7\); .*shared",
        ),
        ((torch.eye(7), rows(4)), r"got argument 0 of shape \(7, 7\); "),
        ({"x": rows(4), "edges": torch.zeros(2, 30).long()}, r"got argument 'edges' of shape \(2, 30\); "),
        ((rows(4), (rows(2), torch.zeros(3))), r"got argument 1\[1\] of shape \(3,\); "),
        ((shared(rows(4)), shared(torch.eye(N))), "got shared arguments alone; .*single graph"),
    ],
)
def test_a_tensor_without_a_row_for_each_input_is_an_error(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerformanceProbe().attach(nn.Identity(), (inputs, Y))


def test_a_packed_sequence_among_the_inputs_is_an_error() -> None:
    packed = pack_padded_sequence(rows(5, 4), torch.full((N,), 3), batch_first=True)
    with pytest.raises(TypeError, match="got a packed sequence; pass the padded sequences"):
        read_data((packed, Y))


def test_the_nodes_of_one_graph_are_refused_with_a_reason() -> None:
    class Nodes(nn.Module):
        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            return x.index_add(0, edges[0], x[edges[1]])

    with pytest.raises(ValueError, match=r"accept two inputs .*nodes of one graph"):
        PerformanceProbe().attach(Nodes(), ((rows(3), shared(torch.randint(N, (2, 30)))), Y))


def test_rows_are_taken_inside_nested_arguments_too() -> None:
    class Nested(nn.Module):
        def forward(self, x: Tensor, states: tuple[Tensor, Tensor], scale: float) -> Tensor:
            return x + scale * states[0] + states[1]

    x, h, c = rows(3), rows(3, seed=1), torch.ones(3)
    series = PerformanceProbe().fit(Nested(), ((x, (h, shared(c)), 2.0), Y)).series_
    assert series["all_loss"].item() == pytest.approx(F.cross_entropy(x + 2 * h + 1, Y).item(), rel=1e-5)


def test_the_fingerprint_covers_shared_arguments_and_their_marks() -> None:
    x = torch.ones(4, 4)
    digests = [read_data(((x, other), None))["all"].digest() for other in (x, shared(x), shared(2 * x), shared(3))]
    assert len(set(digests)) == 4


def test_costs_are_estimated_with_shared_arguments() -> None:
    seconds = PerformanceProbe().estimate(Graph(), ((rows(5, 4), shared(torch.eye(5))), Y)).seconds
    assert "PerformanceProbe" in seconds


# -- what the output of the model is ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Boxes:
    loss: Tensor
    scores: Tensor


class Opaque:
    def __init__(self, loss: Tensor, scores: Tensor) -> None:
        self.loss, self.scores = loss, scores


class Heads(nn.Module):
    """Returns a loss and two heads in a container."""

    def __init__(self, wrap: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.one, self.two, self.wrap = nn.Linear(8, 3), nn.Linear(8, 3), wrap

    def forward(self, x: Tensor) -> Any:
        z = self.body(x)
        one, two = self.one(z), self.two(z)
        return self.wrap(two.square().mean(), one, two)


WAYS: dict[str, tuple[Callable[..., Any], Any]] = {
    "key": (lambda loss, one, two: {"loss": loss, "aux": one, "scores": two}, "scores"),
    "index": (lambda loss, one, two: (loss, one, two), 2),
    "negative index": (lambda loss, one, two: [one, two], -1),
    "attribute": (lambda loss, one, two: Opaque(loss, two), "scores"),
    "field": (lambda loss, one, two: Boxes(loss, two), "scores"),
    "function": (lambda loss, one, two: {"a": {"b": (one, two)}}, lambda output: output["a"]["b"][1]),
    "function that computes": (lambda loss, one, two: {"p": two.softmax(1)}, lambda output: output["p"].log()),
    "first tensor that is no number": (lambda loss, one, two: (loss, two, one), None),
    "logits": (lambda loss, one, two: {"loss": loss, "aux": one, "logits": two}, None),
}


@pytest.mark.parametrize(("wrap", "output"), WAYS.values(), ids=WAYS)
def test_the_selected_output_is_measured_everywhere(wrap: Any, output: Any) -> None:
    """As if the model returned this output alone."""
    x, whole = rows(4), built(lambda: Heads(wrap))
    alone = built(lambda: Heads(lambda loss, one, two: two))
    probes = [
        LMNProbe(layers="body", max_samples=6),
        RobustnessProbe(max_rows=144),
        ActivationsProbe(layers=OUTPUT),
        LocalComplexityProbe(max_rows=300),
    ]
    expected = ProbeSet(probes).fit(alone, (x, Y)).series_
    found = ProbeSet(probes).fit(whole, (x, Y), output=output).series_
    assert found["all_loss"].item() == pytest.approx(F.cross_entropy(alone(x), Y).item(), rel=1e-5)
    names = {"all_accuracy", "local_complexity_total", "robustness_loss"}
    if found["activation_norm"].sel(layer=OUTPUT).item() != approx_log_softmax(alone(x)):
        names |= {"linear_mapping_number", "lipschitz_max", "activation_norm"}
    for name in names:
        np.testing.assert_allclose(found[name].values, expected[name].values, rtol=1e-4, atol=1e-5)


def approx_log_softmax(logits: Tensor) -> Any:
    return pytest.approx(logits.log_softmax(1).square().mean().sqrt().item(), rel=1e-4)


@pytest.mark.parametrize("way", ["key", "index", "attribute", "function", "function that computes"])
def test_an_edit_of_the_selected_output_reaches_its_taps(way: str) -> None:
    wrap, output = WAYS[way]
    model, x = built(lambda: Heads(wrap)), rows(4)
    snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2], output=output))
    plain = snapshot.outputs("all", [OUTPUT])[OUTPUT]
    edited = snapshot.outputs("all", [OUTPUT], edit={OUTPUT: lambda z, positions: z + positions[:, None]})[OUTPUT]
    torch.testing.assert_close(edited, plain + torch.arange(N)[:, None])
    values = model.body(x).detach()
    later = snapshot.outputs_from("all", "body", lambda at: values[at].clone(), [OUTPUT], rows=torch.arange(N))[OUTPUT]
    torch.testing.assert_close(later, plain)
    assert snapshot.has_suffix("all", "<input>", [OUTPUT])
    whole = snapshot.outputs_from("all", "<input>", lambda at: x[at].clone(), [OUTPUT], rows=torch.arange(N))[OUTPUT]
    torch.testing.assert_close(whole, plain)


def test_only_the_layers_before_the_selected_output_run() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = self.body(x)
            return z, self.head(z)

    model, x = Beside(), rows(4)
    snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2], output=1))
    assert snapshot.has_suffix("all", "body", [OUTPUT])
    assert not snapshot.has_suffix("all", "head", ["body"])


@pytest.mark.parametrize(
    ("wrap", "output", "message"),
    [
        (
            lambda loss, one, two: {"loss": loss, "a": one},
            "b",
            r"output='b' .* got dict with 'loss': shape \(\), 'a': sh",
        ),
        (lambda loss, one, two: (loss, one), 2, r"output=2 .* got tuple with 0: shape \(\), 1: shape \(2, 3\)"),
        (lambda loss, one, two: one, 0, r"output=0 .* got a tensor of shape \(2, 3\)"),
        (lambda loss, one, two: (loss, one), lambda o: o.scores, "got AttributeError.*correct the function"),
        (lambda loss, one, two: (loss, one), 0, r"one row .* measured at shape \(\); pass output="),
        (lambda loss, one, two: loss, None, r"one row for each of 2 inputs .*a tensor of shape \(\).*pass output="),
        (
            lambda loss, one, two: Opaque(loss, two),
            None,
            r"got Opaque with 'loss': shape \(\), 'scores': shape \(2, 3\)",
        ),
        (lambda loss, one, two: two.T, None, r"measured at shape \(3, 2\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Expected targets, got None")
def test_an_output_that_cannot_be_measured_is_an_error_that_lists_what_there_is(
    wrap: Any, output: Any, message: str
) -> None:
    model, x = Heads(wrap), rows(4)
    with pytest.raises(ValueError, match=message):
        PerformanceProbe().attach(model, (x, Y), output=output)
    if output is None:
        for probe in (RobustnessProbe(), LMNProbe(layers="body")):
            with pytest.raises(ValueError, match=message):
                probe.fit(model, (x, None))
        ProbeSet([ActivationsProbe(layers="body")]).fit(model, (x, None))  # nothing reads the output


def test_another_kind_of_output_setting_is_an_error() -> None:
    with pytest.raises(TypeError, match="Expected output to be a key"):
        PerformanceProbe().attach(nn.Identity(), (rows(3), Y), output=["a"])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [({"output": 1}, {"output": 2}, "output: recorded 1, now 2"), ({"output": 1}, {}, "output: recorded 1, now None")],
)
def test_a_recording_is_not_resumed_with_another_output(
    first: dict[str, Any], second: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = Heads(lambda loss, one, two: (loss, one, two))
    PerformanceProbe().attach(model, (rows(4), Y), path=tmp_path / "run.nc", **first).observe(0).detach()
    with pytest.raises(ValueError, match=message):
        PerformanceProbe().attach(model, (rows(4), Y), path=tmp_path / "run.nc", mode="resume", **second)


# -- the position that a target belongs to ---------------------------------------------------------------------------

T, K = 6, 7


class Speaker(nn.Module):
    """A language model, causal or not, that computes its own loss for labels in one of several ways."""

    def __init__(self, causal: bool = True, shift: int = 1, layout: str = "nTK") -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(K, 8), nn.Linear(8, 8), nn.Linear(8, K)
        self.causal, self.shift, self.layout = causal, shift, layout

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        z = self.embed(input_ids)
        keep = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weights = keep[:, None, :].float().expand(-1, z.shape[1], -1)
        weights = weights.tril() if self.causal else weights
        z = z + torch.tanh(self.mix(weights @ z / weights.sum(2, keepdim=True).clamp(min=1)))
        logits = self.head(z)
        found = {"logits": logits if self.layout == "nTK" else logits.mT}
        if labels is not None:
            s = self.shift
            found["loss"] = F.cross_entropy(logits[:, : T - s].flatten(0, 1), labels[:, s:].flatten())
        return found


def sentences(pad: str = "right") -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, the mask of the tokens that are no padding, and labels as libraries make them."""
    tokens = torch.randint(K, (N, T), generator=seeded())
    mask = torch.ones(N, T).long()
    mask[::2, 4:] = 0
    mask = mask if pad == "right" else mask.flip(1)
    return tokens, mask, torch.where(mask == 1, tokens, -100)


def caught(function: Callable[[], Any]) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = function()
    return result, [str(warning.message) for warning in found]


def in_loops(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor, shift: int) -> tuple[float, float]:
    """Return loss and accuracy of the outputs at t against the labels at t + shift, token by token."""
    logits = model.eval()(**inputs)["logits"].detach().double()
    losses, right = [], []
    for i in range(N):
        for t in range(T - shift):
            label = int(labels[i, t + shift])
            if label != -100:
                losses.append(-float(logits[i, t].log_softmax(0)[label]))
                right.append(int(logits[i, t].argmax()) == label)
    return sum(losses) / len(losses), sum(right) / len(right)


@pytest.mark.parametrize("pad", ["right", "left"])
@pytest.mark.parametrize("given", ["labels", "targets", "both"])
@pytest.mark.parametrize("setting", [None, 1])
def test_a_causal_language_model_has_its_own_loss(pad: str, given: str, setting: int | None) -> None:
    tokens, mask, labels = sentences(pad)
    model, inputs = built(Speaker), {"input_ids": tokens, "attention_mask": mask}
    data = {
        "labels": ({**inputs, "labels": labels}, None),
        "targets": (inputs, labels),
        "both": ({**inputs, "labels": labels}, labels),
    }[given]
    series, messages = caught(lambda: PerformanceProbe().fit(model, data, targets_shift=setting).series_)
    loss, accuracy = in_loops(model, inputs, labels, 1)
    assert series["all_loss"].item() == pytest.approx(model(**inputs, labels=labels)["loss"].item(), rel=1e-6)
    assert series["all_loss"].item() == pytest.approx(loss, rel=1e-6)
    assert series["all_accuracy"].item() == pytest.approx(accuracy)
    assert len(messages) == (given == "labels" or setting is None)
    assert all("targets_shift=1" in message for message in messages)


def test_targets_are_compared_as_given_if_the_setting_says_so() -> None:
    tokens, mask, labels = sentences()
    model, inputs = built(Speaker), {"input_ids": tokens, "attention_mask": mask}
    series = PerformanceProbe().fit(model, (inputs, labels), targets_shift=0).series_
    assert series["all_loss"].item() == pytest.approx(in_loops(model, inputs, labels, 0)[0], rel=1e-6)


def prompts(labels: Tensor) -> Tensor:
    return torch.cat([torch.full((N, 2), -100), labels[:, 2:]], 1)


NOT_SHIFTED: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor, Tensor], Tensor]]] = {
    "shifted by the caller": (Speaker, lambda x, labels: torch.cat([labels[:, 1:], torch.full((N, 1), -100)], 1)),
    "classes of tokens": (Speaker, lambda x, labels: torch.where(labels == -100, -100, labels % 3)),
    "autoencoder": (lambda: Speaker(causal=False, shift=0), lambda x, labels: labels),
    "masked tokens": (
        lambda: Speaker(causal=False, shift=0),
        lambda x, labels: torch.where(torch.arange(T) % 3 == 1, (x + 1) % K, -100),
    ),
}


@pytest.mark.parametrize(("make", "targets_of"), NOT_SHIFTED.values(), ids=NOT_SHIFTED)
def test_other_targets_of_positions_are_not_shifted(make: Any, targets_of: Any) -> None:
    tokens, mask, labels = sentences()
    model, inputs, targets = built(make), {"input_ids": tokens, "attention_mask": mask}, targets_of(tokens, labels)
    series = PerformanceProbe().fit(model, (inputs, targets)).series_
    assert series["all_loss"].item() == pytest.approx(in_loops(model, inputs, targets, 0)[0], rel=1e-6)


@pytest.mark.parametrize("layout", ["nTK", "nKT"])
@pytest.mark.parametrize("targets_of", [lambda labels: labels, prompts])
def test_targets_that_equal_the_tokens_of_a_causal_model_are_recognised(layout: str, targets_of: Any) -> None:
    """Also if only some positions have a target, as answers after a prompt."""
    tokens, mask, labels = sentences()
    model, inputs, targets = built(lambda: Speaker(layout=layout)), {"input_ids": tokens, "attention_mask": mask}, None
    targets = targets_of(labels)
    with pytest.warns(ProbeWarning, match="equal the input tokens of all, got None; targets_shift=1 is used"):
        series = PerformanceProbe().fit(model, (inputs, targets)).series_
    expected = in_loops(built(Speaker), inputs, targets, 1)[0]
    assert series["all_loss"].item() == pytest.approx(expected, rel=1e-6)


def test_a_recurrent_language_model_is_recognised() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.head = nn.Embedding(K, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, K)

        def forward(self, x: Tensor) -> tuple[Tensor, Any]:
            z, state = self.lstm(self.embed(x))
            return self.head(z), state

    tokens, model = sentences()[0], built(Recurrent)
    with pytest.warns(ProbeWarning, match="targets_shift=1 is used"):
        series = PerformanceProbe().fit(model, (tokens, tokens)).series_
    expected = F.cross_entropy(model(tokens)[0][:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert series["all_loss"].item() == pytest.approx(expected, rel=1e-6)


def test_labels_of_another_model_are_used_where_its_own_loss_has_them() -> None:
    """A model that shifts nothing, such as one for masked tokens or an encoder and decoder."""
    tokens, mask, labels = sentences()
    model, inputs = built(lambda: Speaker(causal=False, shift=0)), {"input_ids": tokens, "attention_mask": mask}
    with pytest.warns(ProbeWarning, match="are used as targets with targets_shift=0"):
        series = PerformanceProbe().fit(model, ({**inputs, "labels": labels}, None)).series_
    assert series["all_loss"].item() == pytest.approx(model(**inputs, labels=labels)["loss"].item(), rel=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_a_loss_that_is_the_same_with_and_without_a_shift_is_decided_by_causality(causal: bool) -> None:
    """A head of zeros, as at the start of some trainings, has the loss log K at each position."""
    tokens, _, labels = sentences()
    model = built(lambda: Speaker(causal=causal, shift=int(causal)))
    model.head.weight.data.mul_(1e-9)
    model.head.bias.data.zero_()
    with pytest.warns(ProbeWarning, match=f"used as targets with targets_shift={int(causal)}"):
        PerformanceProbe().fit(model, ({"input_ids": tokens, "labels": labels}, None))


class Silent(Speaker):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)["logits"]


class Smooth(Speaker):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = super().forward(*args, **kwargs)
        return {key: value + 0.1 if key == "loss" else value for key, value in found.items()}


def test_a_loss_with_a_further_term_leaves_the_decision_to_causality() -> None:
    tokens, _, labels = sentences()
    with pytest.warns(ProbeWarning, match="do not depend on later tokens"):
        PerformanceProbe().attach(Smooth(), ({"input_ids": tokens, "labels": labels}, labels))


@pytest.mark.parametrize(("make", "reason"), [(Silent, "does not return a loss"), (Smooth, "returns another loss")])
def test_labels_whose_loss_cannot_be_reproduced_are_a_warning(make: Any, reason: str) -> None:
    tokens, _, labels = sentences()
    with pytest.warns(ProbeWarning, match=rf"no loss is recorded, since the model {reason}.*pass \(inputs, targets\)"):
        series = PerformanceProbe().fit(make(), ({"input_ids": tokens, "labels": labels}, None)).series_
    assert "all_loss" not in series


class Judged(nn.Module):
    """Returns its loss first."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.linear(x)
        return F.cross_entropy(logits, classes), logits


def test_a_returned_loss_that_is_not_recorded_is_a_warning() -> None:
    with pytest.warns(ProbeWarning, match=r"the single numbers that the model returns \(0\) are not recorded"):
        series = PerformanceProbe().fit(Judged(), ((rows(4), Y), None)).series_
    assert "all_loss" not in series
    PerformanceProbe().fit(Judged(), ((rows(4), Y), Y))


def test_labels_of_positions_are_moved_for_every_probe() -> None:
    """The same numbers as with targets that the caller has moved."""
    tokens, mask, labels = sentences()
    inputs, model = {"input_ids": tokens, "attention_mask": mask}, built(Speaker)
    moved = torch.cat([labels[:, 1:], torch.full((N, 1), -100)], 1)
    probes = [
        MutualInfoProbe(layers=["embed", "mix"], reduce="tokens", noise=0.5, pooled=False),
        NeuralCollapseProbe(layers="mix", reduce="tokens"),
    ]
    expected = ProbeSet(probes).fit(model, (inputs, moved), targets_shift=0).series_
    found = ProbeSet(probes).fit(model, (inputs, labels), targets_shift=1).series_
    other = ProbeSet(probes).fit(model, (inputs, labels), targets_shift=0).series_
    for name in ("information_y", "nc1", "all_loss", "all_accuracy"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
        assert not np.array_equal(found[name].values, other[name].values, equal_nan=True)
    assert found["all_accuracy"].attrs["n"] == (moved != -100).sum()


@pytest.mark.parametrize(
    ("targets", "shift", "message"),
    [
        (Y, 1, r"integer targets \(n, T\) with T > 1 .*got shape \(16,\) and int64 in split 'all'"),
        (rows(T), 1, "float32 in split 'all'; pass targets_shift=0"),
        (torch.zeros(N, T).long(), T, "with T > 6"),
        (torch.zeros(N, T).long(), -1, "None, 0 or a positive integer, got -1"),
        (torch.zeros(N, T).long(), True, "got True"),
    ],
)
def test_a_shift_that_does_not_fit_is_an_error(targets: Tensor, shift: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerformanceProbe().attach(Speaker(), ({"input_ids": sentences()[0]}, targets), targets_shift=shift)


def test_a_recording_is_not_resumed_with_another_shift(tmp_path: Path) -> None:
    data, path = ({"input_ids": sentences()[0]}, sentences()[2]), tmp_path / "run.nc"
    PerformanceProbe().attach(Speaker(), data, path=path, targets_shift=1).observe(0).detach()
    with pytest.raises(ValueError, match="targets_shift: recorded 1, now None"):
        PerformanceProbe().attach(Speaker(), data, path=path, mode="resume", targets_shift=0)
    with pytest.warns(ProbeWarning, match="targets_shift=1 is used"):
        PerformanceProbe().attach(Speaker(), data, path=path, mode="resume").detach()


# -- outputs and targets that are scored as something else -----------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "targets", "undo"),
    [
        (nn.Softmax(1), Y, torch.log),
        (nn.Sigmoid(), Y[:, None].eq(torch.arange(3)).long(), torch.logit),
        (nn.Sequential(nn.Softmax(1), nn.Unflatten(1, (3, 1)), nn.Flatten()), Y, torch.log),
    ],
)
def test_probabilities_are_a_warning(last: nn.Module, targets: Tensor, undo: Any) -> None:
    model, x = built(lambda: nn.Sequential(nn.Linear(4, 3), last)), rows(4)
    with pytest.warns(ProbeWarning, match=r"Expected logits .*got probabilities in split 'all'.*output=lambda"):
        PerformanceProbe().attach(model, (x, targets))
    logits = model[0](x)
    expected = F.cross_entropy(logits, targets) if targets.ndim == 1 else None
    expected = F.binary_cross_entropy_with_logits(logits, targets.float()) if expected is None else expected
    series = PerformanceProbe().fit(model, (x, targets), output=undo).series_
    assert series["all_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("targets", [(Y > 0).float(), Y[:, None].eq(torch.arange(3)).float()])
def test_floating_point_classes_are_a_warning(targets: Tensor) -> None:
    model = nn.Linear(4, 1 if targets.ndim == 1 else 3)
    with pytest.warns(ProbeWarning, match=r"floating-point targets 0 and 1 in split 'all'.*targets\.long\(\)"):
        PerformanceProbe().attach(model, (rows(4), targets))
    PerformanceProbe(score=score_rows).attach(model, (rows(4), targets))


def test_targets_of_plus_and_minus_one_are_a_warning() -> None:
    model, signs = nn.Linear(4, 1), 2 * (Y > 0).float() - 1
    with pytest.warns(ProbeWarning, match=r"floating-point targets -1 and 1 in split 'all'.*\(targets > 0\)\.long\(\)"):
        PerformanceProbe().attach(model, (rows(4), signs))
    advised = PerformanceProbe().attach(model, (rows(4), (signs > 0).long())).observe(0).detach().series_
    answers = model(rows(4)).squeeze(1) > 0
    assert advised["all_accuracy"].item() == pytest.approx((answers == (signs > 0)).float().mean().item())
    PerformanceProbe().attach(model, (rows(4), 2 * signs))  # other numbers are a regression


@pytest.mark.parametrize("targets", [rows(3).softmax(1), 0.9 * Y[:, None].eq(torch.arange(3)).float() + 0.1 / 3])
def test_probabilities_as_targets_are_a_warning(targets: Tensor) -> None:
    model = nn.Linear(4, 3)
    with pytest.warns(ProbeWarning, match=r"got probabilities of classes in split 'all'.*targets\.argmax\(-1\)"):
        PerformanceProbe().attach(model, (rows(4), targets))
    PerformanceProbe(score=score_rows).attach(model, (rows(4), targets))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (rows(4).to_sparse(), "got the layout torch.sparse_coo; pass x.to_dense()"),
        ((rows(4), rows(4).to_sparse()), "got the layout torch.sparse_coo in argument 1; pass"),
        ({"x": rows(4).to_sparse()}, "got the layout torch.sparse_coo in argument 'x'; pass"),
    ],
)
def test_tensors_whose_rows_cannot_be_taken_are_an_error(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"Expected dense tensors in data, {re.escape(message)}"):
        read_data((inputs, None))


def test_a_sparse_matrix_that_all_inputs_share_is_recorded(tmp_path: Path) -> None:
    class Graphs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1, 3)

        def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
            return self.linear(torch.sparse.mm(adjacency, x.T).T[..., None]).sum(1)

    data = (rows(4), shared(torch.eye(4).to_sparse())), None
    series = MutualInfoProbe().attach(Graphs(), data, path=tmp_path / "run.nc").observe(0).detach().series_
    assert series["information_x"].notnull().all()


def test_logits_between_0_and_1_and_real_targets_are_no_warning() -> None:
    PerformanceProbe().attach(nn.Identity(), (0.3 + 0.1 * torch.rand(N, 3), Y))
    PerformanceProbe().attach(nn.Identity(), (rows(3).softmax(1), rows(3)))
    PerformanceProbe().attach(nn.LogSoftmax(1), (rows(3), Y))


# -- padding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad", ["right", "left"])
@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
@pytest.mark.parametrize("reduce", [None, "last"])
def test_the_last_position_is_the_last_token(pad: str, dtype: torch.dtype, reduce: Any) -> None:
    tokens, mask, _ = sentences(pad)
    inputs, model = {"input_ids": tokens, "attention_mask": mask.to(dtype)}, built(lambda: Speaker(causal=False))
    data = read_data((inputs, Y))
    model.register_forward_pre_hook(cast_mask, with_kwargs=True)
    snapshot = Snapshot(model, 0, data, trace(model, data["all"].take(torch.arange(2), torch.device("cpu"))[0]))
    found = snapshot.outputs("all", ["head", OUTPUT], reduce=reduce)
    logits = model(**inputs)["logits"]
    expected = torch.stack([row[keep == 1][-1] for row, keep in zip(logits, mask, strict=True)]).detach()
    torch.testing.assert_close(found["head"], expected)
    torch.testing.assert_close(found[OUTPUT], expected)
    series = PerformanceProbe().attach(model, (inputs, Y), batch_size=5).observe(0).detach().series_
    assert series["all_loss"].item() == pytest.approx(F.cross_entropy(expected, Y).item(), rel=1e-5)
    mean = snapshot.outputs("all", ["head"], reduce="mean")["head"]
    means = torch.stack([row[keep == 1].mean(0) for row, keep in zip(logits, mask, strict=True)]).detach()
    torch.testing.assert_close(mean, means)


def cast_mask(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return args, {**kwargs, "attention_mask": kwargs["attention_mask"].long()}


def test_a_suffix_uses_the_mask_of_its_rows() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
            return self.two(self.one(x))

    model, x, mask = Steps(), rows(T, 4), sentences()[1]
    data = read_data(({"x": x, "attention_mask": mask}, None))
    snapshot = Snapshot(model, 0, data, trace(model, data["all"].take(torch.arange(2), torch.device("cpu"))[0]))
    values, taken = model.one(x).detach(), torch.tensor([3, 0, 1, 1])
    assert snapshot.has_suffix("all", "one", [OUTPUT])
    found = snapshot.outputs_from("all", "one", lambda at: values[taken[at]], [OUTPUT], rows=taken)[OUTPUT]
    last = [5, 3, 5, 5]
    torch.testing.assert_close(found, model(x, mask)[taken, last].detach())


@pytest.mark.parametrize(
    ("mask", "last"),
    [
        (torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0]]), [1, 2, 2, 2]),
        (torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]]), [0, 1, 2, 2]),
    ],
)
def test_the_last_kept_position(mask: Tensor, last: list[int]) -> None:
    z = torch.arange(24.0).reshape(4, 3, 2)
    assert torch.equal(reduce_output(z, None, mask=mask.bool()), z[torch.arange(4), last])
    assert torch.equal(reduce_output(z, -1, mask=mask.bool()), z[:, -1])
    assert torch.equal(reduce_output(z[:, :2], None, mask=mask.bool()), z[:, 1])  # other positions than the mask
    y = torch.zeros(4).long()
    assert torch.equal(score_rows(z, y, mask.bool()), score_rows(z[torch.arange(4), last], y))


def test_a_mask_that_is_added_to_scores_is_ignored() -> None:
    inputs = {"x": rows(3, 2), "attention_mask": torch.tensor([0.0, 0.0, -1e9]).expand(N, 3)}
    assert read_data((inputs, None))["all"].mask is None


class Halved(nn.Module):
    """Its second layer has half as many positions as the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.down = nn.Embedding(K, 4), nn.Linear(8, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.down(self.embed(input_ids).unflatten(1, (T // 2, 2)).flatten(2)).mean(1)


def test_layers_of_other_positions_than_the_mask_are_a_warning_if_inputs_end_with_padding() -> None:
    (tokens, mask, _), (_, left, _) = sentences(), sentences("left")
    with pytest.warns(ProbeWarning, match="Expected layers of 6 positions.* got layers of 3 positions.*in 8 of 16"):
        ActivationsProbe(layers=["embed", "down"]).attach(Halved(), ({"input_ids": tokens, "attention_mask": mask}, Y))
    ActivationsProbe(layers=["embed", "down"]).attach(Halved(), ({"input_ids": tokens, "attention_mask": left}, Y))
    ActivationsProbe(layers="embed").attach(Halved(), ({"input_ids": tokens, "attention_mask": mask}, Y))


class WithMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(K, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.embed(x).mean(1)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long])
def test_a_mask_of_another_name_is_a_warning_if_it_can_mark_padding_at_the_end(dtype: torch.dtype) -> None:
    (tokens, mask, _), (_, left, _) = sentences(), sentences("left")
    probe = ActivationsProbe(layers="embed")
    with pytest.warns(ProbeWarning, match="marked by attention_mask, got argument 'mask', which"):
        probe.fit(WithMask(), ({"x": tokens, "mask": mask.to(dtype)}, Y))
    probe.fit(WithMask(), ({"x": tokens, "mask": left.to(dtype)}, Y))
    ActivationsProbe(layers="embed", reduce=0).fit(WithMask(), ({"x": tokens, "mask": mask.to(dtype)}, Y))


@pytest.mark.parametrize("dtype", [torch.long, torch.float32, torch.bool])
def test_the_mask_of_a_tuple_is_that_of_a_mapping(dtype: torch.dtype) -> None:
    tokens, mask, _ = sentences()
    model = built(Speaker)
    model.register_forward_pre_hook(cast_mask_of_tuple, with_kwargs=True)
    named = MutualInfoProbe(layers="head").fit(model, ({"input_ids": tokens, "attention_mask": mask.to(dtype)}, None))
    placed = MutualInfoProbe(layers="head").fit(model, ((tokens, mask.to(dtype)), None))
    unmasked = MutualInfoProbe(layers="head").fit(model, ((tokens, torch.ones_like(mask)), None))
    assert placed.series_["information_x"].item() == named.series_["information_x"].item()
    assert placed.series_["information_x"].item() != unmasked.series_["information_x"].item()


def cast_mask_of_tuple(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return tuple(arg.long() for arg in args), {key: value.long() for key, value in kwargs.items()}


def test_another_mask_in_a_tuple_is_named() -> None:
    tokens, mask, _ = sentences()
    with pytest.warns(ProbeWarning, match="marked by attention_mask, got argument 'mask', which"):
        ActivationsProbe(layers="embed").fit(WithMask(), ((tokens, mask.long()), Y))


# -- positions that nothing uses -------------------------------------------------------------------------------------


class ClassToken(nn.Module):
    """A classifier that reads one position of its only block of attention."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.position = position

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)[:, self.position]


def test_a_position_that_the_output_does_not_use_is_a_warning() -> None:
    data = rows(3, 4), Y
    with pytest.warns(ProbeWarning, match="depend on the last position of layer 'block', .* give the probes reduce=0"):
        ActivationsProbe(layers="block").fit(ClassToken(0), data)
    ActivationsProbe(layers="block", reduce=0).fit(ClassToken(0), data)
    ActivationsProbe(layers="block", reduce="mean").fit(ClassToken(0), data)
    ActivationsProbe(layers="block").fit(ClassToken(-1), data)


# -- packed sequences ------------------------------------------------------------------------------------------------


class Packed(nn.Module):
    """A recurrent layer on packed sequences, whose last states are the output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (state, _) = self.lstm(packed)
        return self.head(state[-1])


LENGTHS = torch.arange(N) % T + 1


def test_a_packed_sequence_is_measured_at_the_last_position_of_each_input() -> None:
    model, x = built(Packed), rows(T, 4)
    data = read_data(((x, LENGTHS), Y))
    snapshot = Snapshot(model, 0, data, trace(model, (x[:2], LENGTHS[:2])), shared=[Tap("lstm")])
    found = snapshot.outputs("all", ["lstm"])["lstm"]
    expected = torch.stack([model.lstm(row[:length])[0][-1] for row, length in zip(x, LENGTHS, strict=True)]).detach()
    torch.testing.assert_close(found, expected)
    whole = snapshot.outputs("all", ["lstm"], reduce="none")["lstm"]
    assert whole.shape == (N, T, 5)
    assert whole.isnan().any(2).sum(1).tolist() == (T - LENGTHS).tolist()
    assert "lstm" in ActivationsProbe().fit(model, ((x, LENGTHS), Y)).series_["layer"].values


def test_a_packed_sequence_cannot_be_replaced() -> None:
    model, x = Packed(), rows(T, 4)
    snapshot = Snapshot(model, 0, read_data(((x, LENGTHS), Y)), trace(model, (x[:2], LENGTHS[:2])))
    with pytest.raises(TypeError, match="got a packed sequence; choose another layer"):
        snapshot.outputs("all", [OUTPUT], edit={"lstm": lambda z, positions: 0 * z})
