"""The network's JSON: exact, hashed, strict."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from nptp_opt.errors import InputError
from nptp_opt.files import explain
from nptp_opt.geometry import Window
from nptp_opt.geometry.axis_maps import Broadcast, Hull
from nptp_opt.network.load import load_model, load_module
from nptp_opt.plan.network_json import NetworkEntry, network_hash, network_to_json
from tests.network.models import UNet


def network_from_json(document):
    """The network as a plan file's reader sees it."""
    try:
        return NetworkEntry.model_validate(document).network()
    except ValidationError as error:
        raise explain(error, "network") from None


def through_text(network):
    return json.loads(json.dumps(network_to_json(network), allow_nan=False))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "googlenet"])
def test_networks_survive_the_trip_exactly(name):
    network = load_model(name, (1, 3, 97, 120)).network
    back = network_from_json(through_text(network))
    assert back == network and network_hash(back) == network_hash(network)


def test_every_axis_map_survives_the_trip():
    class Many(torch.nn.Module):
        def forward(self, x):
            f = torch.nn.functional
            y = f.interpolate(f.interpolate(x, scale_factor=2.0), size=(9, 9), mode="bicubic")
            y = f.pad(f.adaptive_avg_pool2d(y, (5, 4)), (1, 1, 1, 1), "reflect")
            y = f.pixel_shuffle(torch.cat([y, f.pad(y, (0, 0, 0, 0, 0, 4))], 1), 2)
            return f.pad(y * y.mean((2, 3), keepdim=True), (1, 0, 0, 0), value=-torch.inf)

    network = load_module(UNet(), "unet", (1, 3, 20, 20)).network
    assert network_from_json(through_text(network)) == network
    network = load_module(Many(), "many", (1, 6, 8, 8)).network
    assert network_from_json(through_text(network)) == network


def test_a_hull_of_hulls_is_read():
    """Parts of a hull are axis maps of any kind."""
    network = load_model("squeezenet1_1", (1, 3, 64, 64)).network
    hull = Hull((Hull((Window(8, 8),)), Broadcast(8)))
    layer = network.layers[0]
    (node, *rest), maps = layer.nodes, layer.nodes[0].maps[0]
    nodes = (replace(node, maps=((hull, maps[1]),)), *rest)
    network = replace(network, layers=(replace(layer, nodes=nodes), *network.layers[1:]))
    assert network_from_json(network_to_json(network)).layers[0].nodes[0].maps[0][0] == hull


def test_whole_scales_stay_whole():
    """A scale of 2 and one of 2.0 have different hashes; reading must not turn the one into the
    other."""
    network = network_to_json(load_model("squeezenet1_1", (1, 3, 64, 64)).network)
    for scale in (2, 2.0):
        written = {"map": "nearest", "n_in": 4, "n_out": 2, "scale": scale, "exact": False}
        network["layers"][0]["nodes"][0]["maps"][0][0] = written
        assert repr(network_to_json(network_from_json(network))) == repr(network)


def document():
    return copy.deepcopy(network_to_json(load_model("squeezenet1_1", (1, 3, 64, 64)).network))


def remove_schema(d):
    del d["schema"]


def stale_schema(d):
    d["schema"] = "nptp-opt/network/9"


def unknown_field(d):
    d["layers"][0]["colour"] = 1


def zero_stride(d):
    d["layers"][0]["nodes"][0]["maps"][0][0]["stride"] = 0


def text_stride(d):
    d["layers"][0]["nodes"][0]["maps"][0][0]["stride"] = "2"


def other_axis_field(d):
    d["layers"][0]["maps"]["x"][0]["factor"] = 2


def one_axis(d):
    d["layers"][0]["maps"]["x"].pop()


def words_for_a_number(d):
    """Bug: the reader ended in a traceback of ``float``."""
    d["layers"][0]["nodes"][0]["attrs"]["value"] = {"float": "much"}


def text_size(d):
    d["shapes"]["x"] = ["1", 3, 64, 64]


def swapped_layers(d):
    d["layers"].reverse()


def infinite_flop(d):
    d["layers"][2]["flop"] = float("inf")


def other_map(d):
    d["layers"][0]["maps"]["x"][0]["map"] = "eval"


def two_shapes(d):
    d["layers"][0]["shape"][1] += 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (remove_schema, "network: schema"),
        (stale_schema, "network: schema"),
        (unknown_field, r"layers\.0: unknown key 'colour'"),
        (
            zero_stride,
            r"layers\.0\.nodes\.0\.maps\.0\.0\.window\.stride: .* or equal to 1",
        ),
        (text_stride, r"layers\.0\.nodes\.0\.maps\.0\.0\.window\.stride: .* valid integer"),
        (other_axis_field, r"maps\.x\.0\.window: unknown key 'factor'"),
        (one_axis, r"layers\.0\.maps\.x"),
        (words_for_a_number, r"layers\.0\.nodes\.0\.attrs: must be one of \"inf\""),
        (text_size, r"shapes\.x"),
        (swapped_layers, "before it is made"),
        (infinite_flop, r"layers\.2\.flop"),
        (other_map, r"maps\.x\.0: Input tag 'eval' .*'window', 'broadcast'"),
        (two_shapes, "two shapes"),
    ],
)
def test_broken_documents_are_refused_with_the_field(change, match):
    broken = document()
    change(broken)
    with pytest.raises(InputError, match=match):
        network_from_json(broken)


def test_a_plan_cannot_call_an_op_outside_the_vocabulary():
    from nptp_opt.kernels import run_gather

    broken = document()
    for layer in broken["layers"]:
        for node in layer["nodes"]:
            if node["op"] == "relu":
                node["op"] = "from_file"
    network = network_from_json(broken)
    layer = next(layer for layer in network.layers if layer.nodes[-1].op == "from_file")
    weights = {key: torch.zeros(shape) for key, shape in network.params.items()}
    with pytest.raises(InputError, match="not in the vocabulary"):
        run_gather(layer, weights, {t: torch.zeros(network.shapes[t]) for t in layer.inputs})
