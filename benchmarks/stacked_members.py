"""Members of an ensemble trained together with stacked parameters against one after the other, seconds a step of all.

    python benchmarks/stacked_members.py painn schnet bpnn [--members 4] [--batch 5] [--threads 1] [--hidden 16,64]

One step: energies and forces of a batch of diamond cells, loss, gradient of all parameters. Stacked: torch.func
(stack_module_state, vmap) over members on the same batch. train.py gives every member a process and a thread, so that
on a CPU stacking pays only where it beats taking turns on one thread. Seconds of processor time; gradients compared.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from models import DIAMOND, cells
from torch.func import functional_call, stack_module_state, vmap

from mlffx.data import keys
from mlffx.data.graph import Edges, edges_of
from mlffx.models import build_model
from mlffx.models.base import complete_spec
from mlffx.potentials.base import evaluate
from mlffx.potentials.network import NetworkPotential


def member(spec: dict[str, Any], seed: int) -> NetworkPotential:
    torch.manual_seed(seed)
    return NetworkPotential(build_model(spec), torch.zeros(1), 1.0, spec).set_precision(torch.float32)  # type: ignore[return-value]


class All(Edges):
    """Edges that are within the cutoff already: `within` would look at values, which vmap forbids."""

    def within(self, cutoff: float) -> Edges:
        return self


def loss_of(energy: torch.Tensor, forces: torch.Tensor) -> torch.Tensor:
    return energy.square().sum() * 1e-4 + forces.square().sum()


def in_turn(members: list[NetworkPotential], batch: Any) -> list[torch.Tensor]:
    """Gradients of the first member, after a step of all."""
    for one in members:
        one.zero_grad()
        out = evaluate(one, batch, create_graph=True)
        loss_of(out[keys.ENERGY], out[keys.FORCES]).backward()
    return [p.grad for p in members[0].parameters() if p.grad is not None]


def stacked(members: list[NetworkPotential], batch: Any) -> Callable[[], list[torch.Tensor]]:
    """A closure that takes one step of all members together."""
    parameters, buffers = stack_module_state(members)  # type: ignore[arg-type]
    skeleton = copy.deepcopy(members[0])

    def energy(own: Any, others: Any, positions: torch.Tensor) -> torch.Tensor:
        moved = copy.copy(batch)
        moved[keys.POSITIONS] = positions
        e = edges_of(moved)
        edges = All(e.sender, e.receiver, e.vectors, e.lengths)
        return functional_call(skeleton, (own, others), (moved, edges))[keys.ENERGY]

    together = vmap(energy, in_dims=(0, 0, 0))

    def step() -> list[torch.Tensor]:
        for p in parameters.values():
            p.grad = None
        positions = batch[keys.POSITIONS].expand(len(members), -1, -1).clone().requires_grad_(True)
        found = together(parameters, buffers, positions)
        (slope,) = torch.autograd.grad(found.sum(), positions, create_graph=True)
        loss_of(found, slope).backward()
        return [p.grad[0] for p in parameters.values() if p.grad is not None]

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", default="16,64", help="sizes of painn and schnet")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.models:
        for size in [int(n) for n in options.hidden.split(",")] if name in ("painn", "schnet") else [0]:
            chosen = {"name": name, "cutoff": 4.0} | ({"n_hidden": size} if size else {})
            spec = complete_spec(chosen, species=[6], mean_neighbours=45.6, crystal=DIAMOND.to_arrays())
            members = [member(spec, seed) for seed in range(options.members)]
            batch = cells(options.batch, members[0].cutoff)
            title = f"{name}{f' {size}' if size else ''}, {options.members} members"
            try:
                step = stacked(members, batch)
                together = step()
            except (RuntimeError, ValueError) as error:
                print(f"{title}: cannot be stacked ({str(error).splitlines()[0][:90]})", flush=True)
                continue
            one = in_turn(members, batch)
            worst = max(
                float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in zip(together, one, strict=True)
            )
            times: dict[str, list[float]] = {"in turn": [], "stacked": []}
            for _ in range(options.rounds):
                for kind, run in (("in turn", lambda: in_turn(members, batch)), ("stacked", step)):  # noqa: B023
                    began = time.process_time()
                    run()
                    times[kind].append(time.process_time() - began)
            turn, stack = (statistics.median(times[k]) for k in ("in turn", "stacked"))
            print(
                f"{title}: in turn {turn:.3f} s, stacked {stack:.3f} s, {turn / stack:.2f} times as fast; "
                f"gradients equal to {worst:.0e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
