"""The same with skorch, which gives a PyTorch module the interface of scikit-learn: rows of numbers."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn


class Network(nn.Module):
    def __init__(self, features, classes, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        return self.layers(x)


class OnFloats:
    """skorch takes only float32."""

    def __init__(self, net):
        self.net = net

    def predict_proba(self, x):
        return self.net.predict_proba(np.asarray(x, np.float32))


def train(job, *, epochs=30, width=128, learning_rate=0.01):
    torch.manual_seed(job.seed)
    net = NeuralNetClassifier(
        Network, module__features=job.x.shape[1], module__classes=job.classes, module__width=width, criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam, lr=learning_rate, max_epochs=epochs, train_split=None, verbose=0,
    )  # fmt: skip
    net.fit(np.asarray(job.x, np.float32), job.y)
    return OnFloats(net)
