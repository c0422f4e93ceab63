"""A convolutional network in a plain PyTorch loop: images (n, height, width, channels) of bytes, on a GPU where there is one."""

import numpy as np
import torch
from torch import nn


def tensor(images, device):
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255


def network(channels, classes, width):
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, classes),
    )  # fmt: skip


def train(job, *, epochs=20, width=32, learning_rate=0.003, batch_size=64):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(job.seed)  # weights and order: the seed decides the result
    x, y = tensor(job.x, device), torch.from_numpy(job.y).to(device)
    model = network(x.shape[1], job.classes, width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for epoch in range(1, epochs + 1):
        model.train()
        total, right = 0.0, 0
        for rows in torch.randperm(len(y)).to(device).split(batch_size):
            logits = model(x[rows])
            loss = nn.functional.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            right += (logits.argmax(1) == y[rows]).sum().item()
        job.report(epoch=epoch, loss=total / len(y), accuracy=right / len(y))
    model.eval()

    @torch.no_grad()
    def predict(images):
        return torch.cat([model(tensor(part, device)) for part in np.array_split(images, len(images) // 512 + 1)])

    return predict
