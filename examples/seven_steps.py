"""Contrastive learning in seven steps, as textbooks teach it: augment, encode, project, contrast, loss, update, repeat.

python examples/seven_steps.py
"""

# %% [markdown]
# There are no labels. We only know that two random views of one picture show the same thing, and that views of two
# pictures most likely do not. From this alone an encoder learns what pictures have in common.

# %%
import io
from importlib.resources import files

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
path = files("multicl.recipes") / "data" / "spoken_codes.parquet"  # real scans of digits, 8 x 8
scans = pq.read_table(str(path), filters=[("kind", "=", "scan")]).to_pylist()
pixels = np.stack([np.asarray(Image.open(io.BytesIO(scan["image"])).convert("L")) for scan in scans])
pictures = torch.tensor(pixels, dtype=torch.float32)[:, None] / 255  # [N, 1, 8, 8]
labels = torch.tensor([scan["label"] for scan in scans])  # never used in training, only to see what was learnt
print(f"{len(pictures)} pictures of {pictures.shape[-1]} x {pictures.shape[-2]} pixels")

# %% [markdown]
# **1. Augment.** A view changes what does not matter: a shift of a pixel, brightness, noise.


# %%
def augment(x: torch.Tensor) -> torch.Tensor:
    """One random view of each picture: [B, 1, 8, 8] -> [B, 1, 8, 8]."""
    padded = F.pad(x, (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2, len(x)))
    shifted = torch.stack([p[:, a : a + 8, b : b + 8] for p, a, b in zip(padded, dy, dx, strict=True)])
    bright = 0.6 + 0.8 * torch.rand(len(x), 1, 1, 1)
    return shifted * bright + 0.15 * torch.randn_like(shifted)


batch = pictures[:256]
view_1, view_2 = augment(batch), augment(batch)
print(f"1 augment   two views of a picture differ by {(view_1 - view_2).abs().mean():.2f} a pixel")

# %% [markdown]
# **2. Encode.** A network turns each view into features. This is what we keep in the end.

# %%
encoder = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
    nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(),
)  # fmt: skip
h_1, h_2 = encoder(view_1), encoder(view_2)
print(f"2 encode    a picture becomes {h_1.shape[1]} features")

# %% [markdown]
# **3. Project.** A small head maps the features to the space in which views are compared. It is thrown away later:
# it discards what views differ in, so the encoder before it does not have to.

# %%
head = nn.Sequential(nn.Linear(h_1.shape[1], 128), nn.ReLU(), nn.Linear(128, 32))
z_1, z_2 = F.normalize(head(h_1), dim=1), F.normalize(head(h_2), dim=1)
print(f"3 project   and {z_1.shape[1]} numbers on a sphere")

# %% [markdown]
# **4. Contrast.** Every view is compared with every other by cosine. Its partner should be the nearest.

# %%
z = torch.cat([z_1, z_2])  # [2B, 32]
cosines = z @ z.T
partner = torch.arange(len(z)).roll(len(z_1))
others = ~(torch.eye(len(z), dtype=torch.bool) | F.one_hot(partner, len(z)).bool())
print(f"4 contrast  cosine with its partner {cosines[torch.arange(len(z)), partner].mean():.2f}, with others "
      f"{cosines[others].mean():.2f}")  # fmt: skip

# %% [markdown]
# **5. Loss.** Which of the 2B - 1 others is the partner? This is classification by soft-max: NT-Xent. multicl computes
# the same loss without ever holding the [2B, 2B] matrix.

# %%
from multicl.functional import nt_xent  # noqa: E402

temperature = 0.2
logits = (cosines / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
by_hand = F.cross_entropy(logits, partner)
loss = nt_xent(z_1, z_2, temperature=temperature)
print(f"5 loss      {by_hand.item():.4f} by hand, {loss.item():.4f} by multicl; guessing: {np.log(len(z) - 1):.4f}")

# %% [markdown]
# **6. Update.** One step along the gradient: partners move together, others apart.

# %%
optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=2e-3)
loss.backward()
optimizer.step()
after = nt_xent(head(encoder(view_1)), head(encoder(view_2)), temperature=temperature)
print(f"6 update    the same views after one step: {after.item():.4f}")


# %% [markdown]
# **7. Repeat**, with other pictures and other views. How well do the features tell the digits apart, without labels?
# We look at the nearest neighbour of a view of each test picture.


# %%
def neighbours() -> float:
    """Share of the last 400 pictures for which the other picture nearest to a view shows the same digit."""
    with torch.no_grad():
        known, asked = (F.normalize(encoder(x), dim=1) for x in (pictures[:-400], augment(pictures[-400:])))
    nearest = (asked @ known.T).argmax(1)
    return float((labels[:-400][nearest] == labels[-400:]).float().mean())


print(f"7 repeat    before: nearest neighbour right {neighbours():.1%}")
generator = torch.Generator().manual_seed(0)
for step in range(121):
    batch = pictures[:-400][torch.randperm(len(pictures) - 400, generator=generator)[:256]]
    loss = nt_xent(head(encoder(augment(batch))), head(encoder(augment(batch))), temperature=temperature)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"  step {step:3d}  loss {loss.item():.3f}  nearest neighbour right {neighbours():.1%}")

# %% [markdown]
# That is all. `multicl.Trainer` does the same for pictures, texts, sounds and pairs of them, at any batch size
# and on any number of machines: see `examples/ten_lines.py`.
