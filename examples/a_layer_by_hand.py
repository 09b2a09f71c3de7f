"""One layer's partition problem: made by hand, solved by several methods, evaluated once more.

A notebook-style script: the cells are marked by ``# %%`` and can be run one by one.
"""

# %% A convolution on three unequal devices.
import nptp_opt as nptp

layer = nptp.LayerShape(
    op="conv2d",
    in_channels=32,
    out_channels=32,
    in_height=28,
    in_width=28,
    kernel=(3, 3),
    padding=(1, 1, 1, 1),
)
cluster = nptp.Cluster(
    network={"kind": "shared", "mbit_per_s": 50.0, "latency_ms": 0.1},
    devices=[{"name": name, "gflops": g} for name, g in (("a", 2.0), ("b", 1.0), ("c", 1.0))],
)
problem = nptp.LayerProblem(name="by hand", layer=layer, cluster=cluster)

# %% Strips, columns, and any cuts that end at others.
for formulation in ("strip", "column-dp", "guillotine-dp"):
    result = nptp.solve_layer(problem, formulation=formulation)
    print(result)

# %% What the best one looks like.
assert result.tiles is not None
for device, tile in result.tiles.items():
    print(cluster.devices[device].name, tile)
