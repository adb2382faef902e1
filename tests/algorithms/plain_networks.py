"""The networks written down plainly: weights by name, loops over members, sub-actions, heads and tokens."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.objectives import Objective
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.policies.autoregressive import AutoregressivePolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy
from tests.algorithms.toy_agent import NVEC, OBSERVATION

SIZES = ASMSizes(width=8, heads=2, layers=2, state_tokens=2, head_width=6, dropout=0.0)


def factored() -> Policy:
    return FactoredPolicy(OBSERVATION, NVEC, width=8, dropout=0.0)


def autoregressive() -> Policy:
    return AutoregressivePolicy(OBSERVATION, NVEC, width=8, state_width=6, token_width=4)


def saint() -> Policy:
    return SlotPolicy(OBSERVATION, NVEC, SIZES)


def spin() -> Policy:
    policy = SlotPolicy(OBSERVATION, NVEC, SIZES, trunk_dropout=False)
    policy.start_from(ActionStructureModel(OBSERVATION, NVEC, SIZES))
    return policy


POLICIES: dict[str, Callable[[], Policy]] = {build.__name__: build for build in (factored, autoregressive, saint, spin)}


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


class PlainNetworks:
    """All of an objective's weights as leaves of their own, and the networks as functions of them."""

    def __init__(self, objective: Objective) -> None:
        trained = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
        self.weights = {
            name: value.detach().clone().requires_grad_(name in trained)
            for name, value in objective.state_dict().items()
        }
        self.policy = type(objective.policy)

    def of(self, prefix: str) -> list[Tensor]:
        """The weights under ``prefix`` that train."""
        return [value for name, value in self.weights.items() if name.startswith(prefix) and value.requires_grad]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def value(self, name: str, observation: Tensor) -> Tensor:
        """V(s), (B,)."""
        x = self.linear(f"{name}.net.0", observation).relu()
        return self.linear(f"{name}.net.4", self.linear(f"{name}.net.2", x).relu())[:, 0]

    def critics(self, name: str, observation: Tensor) -> Iterator[list[Tensor]]:
        """For each of two members, Q_i(s, c) of each sub-action, (B, nvec[i])."""
        for member in range(2):
            x = observation
            for layer in range(3):
                weight = self.weights[f"{name}.layers.{layer}.weight"][member]
                x = x @ weight + self.weights[f"{name}.layers.{layer}.bias"][member]
                x = x.relu() if layer < 2 else x
            yield [x[:, i * max(NVEC) : i * max(NVEC) + n] for i, n in enumerate(NVEC)]

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """log pi(a | s), (B,)."""
        logits = self.logits(observation, action)
        return sum(of.log_softmax(-1).gather(1, action[:, i, None])[:, 0] for i, of in enumerate(logits))

    def logits(self, observation: Tensor, action: Tensor | None = None) -> list[Tensor]:
        """Logits (B, nvec[i]) of each sub-action; ``action`` feeds an autoregressive policy."""
        if self.policy is FactoredPolicy:
            return self._factored(observation)
        if self.policy is SlotPolicy:
            return self._slots(observation)
        state, logits = self._recurrent_start(observation), []
        for i in range(len(NVEC)):
            logits.append(self._recurrent_step(state, i, action[:, i - 1] if i else None))
        return logits

    def sample(self, observation: Tensor, uniforms: Tensor) -> Tensor:
        """Joint actions (B, N) of the autoregressive policy at the quantiles ``uniforms`` (B, N)."""
        state, chosen = self._recurrent_start(observation), []
        for i in range(len(NVEC)):
            logits = self._recurrent_step(state, i, chosen[-1] if i else None)
            cumulative = logits.softmax(-1).cumsum(-1)
            below = [(cumulative[:, c] <= uniforms[:, i]).long() for c in range(NVEC[i] - 1)]
            chosen.append(sum(below, torch.zeros(len(observation), dtype=torch.long)))
        return torch.stack(chosen, 1)

    def _factored(self, observation: Tensor) -> list[Tensor]:
        x = self.linear("policy.body.0", observation).relu()
        x = self.linear("policy.heads", self.linear("policy.body.2", x).relu())
        return [x[:, i * max(NVEC) : i * max(NVEC) + n] for i, n in enumerate(NVEC)]

    def _slots(self, observation: Tensor) -> list[Tensor]:
        state = self.linear("policy.state_encoder.net.2", gelu(self.linear("policy.state_encoder.net.0", observation)))
        queries = self.weights["policy.queries"]
        tokens = [state[:, m * SIZES.width : (m + 1) * SIZES.width] for m in range(SIZES.state_tokens)]
        tokens += [queries[i].expand(len(observation), -1) for i in range(len(NVEC))]
        for layer in range(SIZES.layers):
            tokens = self._block(f"policy.trunk.blocks.{layer}", tokens)
        logits = []
        for i, n in enumerate(NVEC):
            heads = {name: self.weights[f"policy.heads.{name}"][i] for name in ("inner.weight", "inner.bias")}
            hidden = gelu(tokens[SIZES.state_tokens + i] @ heads["inner.weight"] + heads["inner.bias"])
            outer = self.weights["policy.heads.outer.weight"][i, :, :n]
            logits.append(hidden @ outer + self.weights["policy.heads.outer.bias"][i, :, :n])
        return logits

    def _block(self, name: str, tokens: list[Tensor]) -> list[Tensor]:
        size = SIZES.width // SIZES.heads
        queries_keys_values = [
            self.linear(f"{name}.query_key_value", self._norm(f"{name}.attention_norm", x)) for x in tokens
        ]
        mixed = []
        for token, own in zip(tokens, queries_keys_values, strict=True):
            heads = []
            for head in range(SIZES.heads):
                query, key, value = (
                    slice(k * SIZES.width + head * size, k * SIZES.width + (head + 1) * size) for k in range(3)
                )
                scores = torch.stack(
                    [(own[:, query] * other[:, key]).sum(-1) / size**0.5 for other in queries_keys_values]
                )
                share = scores.exp() / scores.exp().sum(0)
                heads.append(sum(share[t, :, None] * other[:, value] for t, other in enumerate(queries_keys_values)))
            mixed.append(token + self.linear(f"{name}.out", torch.cat(heads, -1)))
        return [
            x + self.linear(f"{name}.ffn.3", gelu(self.linear(f"{name}.ffn.0", self._norm(f"{name}.ffn_norm", x))))
            for x in mixed
        ]

    def _norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _recurrent_start(self, observation: Tensor) -> dict[str, Tensor]:
        return {"state": self.linear("policy.state", observation).relu()}

    def _recurrent_step(self, memory: dict[str, Tensor], i: int, previous: Tensor | None) -> Tensor:
        """Logits of sub-action i after ``previous``; moves the memory on."""
        state = memory["state"]
        start = torch.full((len(state),), max(NVEC))
        x = torch.cat([state, self.weights["policy.tokens.weight"][start if previous is None else previous]], -1)
        for layer in range(2):
            hidden, cell = memory.get(f"hidden{layer}"), memory.get(f"cell{layer}")
            gates = (
                x @ self.weights[f"policy.lstm.weight_ih_l{layer}"].T + self.weights[f"policy.lstm.bias_ih_l{layer}"]
            )
            gates = gates + self.weights[f"policy.lstm.bias_hh_l{layer}"]
            if hidden is not None:
                gates = gates + hidden @ self.weights[f"policy.lstm.weight_hh_l{layer}"].T
            enter, keep, content, leave = gates.chunk(4, -1)
            written = enter.sigmoid() * content.tanh()
            cell = written if cell is None else keep.sigmoid() * cell + written
            x = leave.sigmoid() * cell.tanh()
            memory[f"hidden{layer}"], memory[f"cell{layer}"] = x, cell
        head = slice(0, NVEC[i])
        return x @ self.weights["policy.heads.weight"][i, :, head] + self.weights["policy.heads.bias"][i, :, head]


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def chosen_sum(columns: list[Tensor], action: Tensor) -> Tensor:
    """Sum over i of the chosen entries of columns (B, nvec[i]), (B,)."""
    return sum(column.gather(1, action[:, i, None])[:, 0] for i, column in enumerate(columns))


def move_target(networks: PlainNetworks, target: str, online: str, rate: float) -> None:
    for name, value in networks.weights.items():
        if name.startswith(f"{target}."):
            value += rate * (networks.weights[name.replace(target, online, 1)].detach() - value)


def assert_all_weights_agree(objective: Objective, networks: PlainNetworks, before: dict[str, Tensor]) -> None:
    """To 1e-8; and all that train, and their targets, have moved."""
    trained = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    for name, value in objective.state_dict().items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, networks.weights[name].detach(), rtol=0, atol=1e-8, msg=name)
        assert torch.equal(value, before[name]) == (name not in trained and not name.startswith("target_")), name
