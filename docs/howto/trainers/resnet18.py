"""A ResNet-18 for images of 32 pixels (He et al. 2016, Table 6's variant without the first pooling), with flips and shifts, on one GPU."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return functional.relu(self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x))))) + self.shortcut(x))


def resnet18(channels, classes, width=64):
    layers = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(4):
        for block in range(2):
            outputs = width * 2**stage
            layers.append(Block(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def shifted_and_flipped(x):
    """Each image moved by up to four pixels, with a reflected border, and mirrored half of the time."""
    n, _, height, width = x.shape
    padded = functional.pad(x, (4, 4, 4, 4), mode="reflect")
    down = torch.randint(0, 9, (n, 1), device=x.device) + torch.arange(height, device=x.device)
    right = torch.randint(0, 9, (n, 1), device=x.device) + torch.arange(width, device=x.device)
    right = torch.where(torch.rand(n, 1, device=x.device) < 0.5, right.flip(1), right)
    rows = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[rows, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


def train(job, *, epochs=50, batch_size=256, learning_rate=0.2, weight_decay=5e-4):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(job.seed)
    torch.backends.cudnn.benchmark = True

    def tensor(images):
        x = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
        return x.to(dtype=torch.bfloat16, memory_format=torch.channels_last) / 127.5 - 1

    x, y = tensor(job.x), torch.from_numpy(job.y).to(device)
    model = resnet18(x.shape[1], job.classes).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=weight_decay, nesterov=True)
    steps = -(-len(y) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps, pct_start=0.2)
    for epoch in range(1, epochs + 1):
        model.train()
        total, right = torch.zeros((), device=device), torch.zeros((), device=device)
        for rows in torch.randperm(len(y), device=device).split(batch_size):
            with torch.autocast(device, dtype=torch.bfloat16):
                logits = model(shifted_and_flipped(x[rows]))
            loss = functional.cross_entropy(logits.float(), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
            right += (logits.argmax(1) == y[rows]).sum()
        job.report(epoch=epoch, loss=total.item() / len(y), accuracy=right.item() / len(y))
    model.eval()

    @torch.no_grad()
    def predict(images):
        parts = []
        for part in np.array_split(images, len(images) // 2048 + 1):
            with torch.autocast(device, dtype=torch.bfloat16):
                parts.append(model(tensor(part)).float().cpu())
        return torch.cat(parts)

    return predict
