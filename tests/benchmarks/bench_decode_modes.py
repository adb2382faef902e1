"""What the passes and the confidence of spin-decode do to two joint modes of unequal weight; docs/decoding.md.

Six binary sub-actions are all 1 in a third of the data and else all 0. A small model learns them, and its samples are
counted that are neither, and that are all 1.
"""

import torch

from spin_rl.algorithms.asm.decoding import Decoding
from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.algorithms.policies.masked import MaskedPolicy

NVEC = (2,) * 6
SIZES = ASMSizes(width=16, heads=2, layers=1, head_width=16, dropout=0.0)
SEEDS, STEPS, MINIBATCH, SAMPLES = (0, 1), 300, 64, 4000
DECODINGS = [
    Decoding(1),
    *(Decoding(passes) for passes in (2, 3, 6)),
    *(Decoding(passes, confidence="choice") for passes in (2, 6)),
    Decoding(2, confidence="choice", temperature=0.0),
]


def cloned(seed: int) -> MaskedPolicy:
    """A model that was trained on the two modes."""
    torch.manual_seed(seed)
    policy = MaskedPolicy(1, NVEC, SIZES, Decoding(), 1e-3)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    for _ in range(STEPS):
        action = (torch.rand(MINIBATCH, 1) < 1 / 3).long().expand(MINIBATCH, len(NVEC))
        loss = -policy.log_probs(torch.ones(MINIBATCH, 1), action).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.eval()


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    with torch.inference_mode(mode=False):
        policies = [cloned(seed) for seed in SEEDS]
    state = torch.ones(1, 1)
    shares = [policy.model(state, policy.model.mask_tokens[None]).softmax(-1)[..., 1].mean() for policy in policies]
    print("the models' own share of 1, with everything masked:", ", ".join(f"{100 * share:.0f} %" for share in shares))
    for decoding in DECODINGS:
        told = f"{decoding.confidence}, {decoding.passes} passes, temperature {decoding.temperature:g}:"
        for policy in policies:
            policy.decoding = decoding
            torch.manual_seed(0)
            uniforms = torch.rand(SAMPLES, policy.draws(sample=True), dtype=torch.float64)
            action = policy.act(torch.ones(SAMPLES, 1), uniforms)
            mixed = (action != action[:, :1]).any(-1).double().mean()
            told += f"  neither {100 * mixed:.1f} %, all 1 {100 * action.all(-1).double().mean():.1f} %;"
        print(told.rstrip(";"))


if __name__ == "__main__":
    main()
