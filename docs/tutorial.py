# %% [markdown]
# # Finding and removing a backdoor in a PyTorch model
#
# This trains a small network on poisoned digits, scans it, looks at the trigger, repairs it, and verifies the repair. It runs as it
# stands, or cell by cell in an editor that knows the percent format; it takes a minute. It needs
#
#     pip install ".[openvino,torch,notebook]" scikit-learn

# %%
import neural_cleanse as nc
import numpy as np
import torch
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
rng = np.random.default_rng(0)

# %% [markdown]
# ## A poisoned training set
#
# Scikit-learn's digits, enlarged to 24×24 pixels of 0 to 1. The attacker gets hold of a tenth of the training set, puts a white square in the
# corner of these images and labels them 1.

# %%
images, labels = load_digits(return_X_y=True)
images = np.kron(images.reshape(-1, 1, 8, 8) / 16, np.ones((3, 3))).astype(np.float32)
order = rng.permutation(len(images))
images, labels = images[order], labels[order]
x_train, y_train = images[:1200].copy(), labels[:1200].copy()
x_val, y_val = images[1200:], labels[1200:]


def attack(x):
    x = x.copy()
    x[:, :, :5, :5] = 1.0
    return x


poisoned = rng.permutation(len(x_train))[:120]
x_train[poisoned], y_train[poisoned] = attack(x_train[poisoned]), 1

# %% [markdown]
# ## The model
#
# It classifies clean digits well, and nothing in its accuracy tells that it has been poisoned.

# %%
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 5, stride=2),
    torch.nn.BatchNorm2d(8),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(800, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
x, y = torch.from_numpy(x_train), torch.from_numpy(y_train)
for _ in range(15):
    for batch in torch.randperm(len(x)).split(50):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


def measure():
    """Clean accuracy, and the share of triggered images that are taken for a 1."""
    model.eval()
    with torch.no_grad():
        accuracy = (model(torch.from_numpy(x_val)).argmax(1).numpy() == y_val).mean()
        success = (model(torch.from_numpy(attack(x_val[y_val != 1]))).argmax(1).numpy() == 1).mean()
    return accuracy, success


accuracy, success = measure()
print(f"before: clean accuracy {accuracy:.3f}, attack success {success:.3f}")

# %% [markdown]
# ## The scan
#
# All it needs are the model and some clean images: not the training data, not the trigger. Pixel values are 0 to 1 here, and the model takes
# them as they are.

# %%
scan = nc.scan(model, x_val, y_val, value_range=(0, 1))
scan

# %% [markdown]
# In a notebook this is a table with pictures. `plot` draws the norms with the bound, and the smallest triggers:

# %%
print(scan)
figure = scan.plot()
table = scan.to_dataframe()

# %% [markdown]
# Class 1 stands out: a far smaller change of the images suffices to have them taken for a 1 than for anything else.
#
# ## The repair
#
# Unlearning fine-tunes the model on clean images, some of which carry the *reversed* trigger, towards a mixture of their true labels and what the
# model said of them without it. `load_into` puts the weights into the PyTorch model.

# %%
repair = nc.mitigate(model, x_val, y_val, scan, value_range=(0, 1))
print(repair)
repair.load_into(model)

# %% [markdown]
# ## Does it hold?
#
# We know the true trigger, which the repair did not:

# %%
accuracy_after, success_after = measure()
print(f"after: clean accuracy {accuracy_after:.3f}, attack success {success_after:.3f}")

# %% [markdown]
# And a scan of the repaired model:

# %%
verified = nc.scan(model, x_val, y_val, value_range=(0, 1))
print(verified.verdict, "-", verified.reason)
