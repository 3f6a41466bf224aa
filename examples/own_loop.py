"""multicl's losses in your own loop: two views, an encoder, NT-Xent; MoCo; SwAV; a batch too large for memory.

python examples/own_loop.py
"""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from multicl import Context, Embedded, SwAV, World
from multicl.functional import info_nce, nt_xent

torch.manual_seed(0)
things = torch.randn(512, 32)
encoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
log_temperature = nn.Parameter(torch.tensor(-1.0))  # learnt: its gradient is exact, too
optimizer = torch.optim.Adam([*encoder.parameters(), log_temperature], lr=1e-2)

for step in range(61):
    rows = things[torch.randperm(512)[:128]]
    z1, z2 = (encoder(rows + 0.3 * torch.randn_like(rows)) for _ in range(2))
    loss = nt_xent(z1, z2, temperature=log_temperature.exp())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step}  NT-Xent {loss.item():.3f}  temperature {log_temperature.exp().item():.3f}")

with torch.no_grad():
    a, b = (encoder(things[:64] + 0.3 * torch.randn(64, 32)) for _ in range(2))
    right = (nn.functional.normalize(a) @ nn.functional.normalize(b).T).argmax(1) == torch.arange(64)
    print(f"InfoNCE across the views {info_nce(a, b, temperature=0.1).item():.3f}, recall@1 {right.float().mean():.0%}")

# MoCo: keys come from a momentum encoder, negatives only from a queue of the latest keys.
slow = AveragedModel(encoder, multi_avg_fn=get_ema_multi_avg_fn(0.99))
queue = torch.zeros(0, 16)
for _ in range(41):
    rows = things[torch.randperm(512)[:64]]
    with torch.no_grad():
        keys = slow(rows + 0.3 * torch.randn_like(rows))
    asking = encoder(rows + 0.3 * torch.randn_like(rows))
    loss = info_nce(asking, keys, 0.2, both_directions=False, extra_keys=queue, in_batch=False)  # 0 at first
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    slow.update_parameters(encoder)
    queue = torch.cat([keys, queue])[:256]  # after the loss; on several ranks, gather the keys of all
print(f"MoCo {loss.item():.3f} with {len(queue)} keys in the queue; chance is {torch.tensor(257.0).log():.3f}")

# An objective with weights of its own is a module that its settings build. `row` numbers the things in the batch.
swav = SwAV(prototypes=32, frozen_steps=0).build((16, 16))
optimizer.add_param_group({"params": swav.parameters()})
for step in range(21):
    row = torch.randperm(512)[:128]
    a, b = (Embedded(encoder(things[row] + 0.3 * torch.randn(128, 32)), row, row) for _ in range(2))
    told = swav(a, b, Context(World.current(), step=step, progress=step / 21, symmetric=True))
    optimizer.zero_grad()
    told["loss"].backward()
    optimizer.step()
print(f"SwAV {told['loss'].item():.3f}, prototypes in use {told['prototypes_used'].item():.0f}")

# A batch that does not fit in memory: embed it in chunks, take the loss's gradient with respect to the embeddings, and
# backpropagate that chunk by chunk: this is the whole batch's gradient. With dropout, seed each chunk alike both times.
views = torch.cat([things + 0.3 * torch.randn_like(things) for _ in range(2)]).split(64)
with torch.no_grad():
    z = torch.cat([encoder(chunk) for chunk in views])
loss = nt_xent(*z.requires_grad_().chunk(2), temperature=0.2)
(pull,) = torch.autograd.grad(loss, z)
encoder.zero_grad()
for chunk, part in zip(views, pull.split(64), strict=True):
    encoder(chunk).backward(part)
first = encoder[0].weight
(whole,) = torch.autograd.grad(nt_xent(*encoder(torch.cat(views)).chunk(2), temperature=0.2), first)
off = (first.grad - whole).norm() / whole.norm()
print(f"512 rows in chunks of 64: the gradient differs by {off:.0e} of its length")
