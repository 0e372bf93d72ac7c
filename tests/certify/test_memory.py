import subprocess
import sys

import pytest

from pipeline.core.files import ROOT
from tests.serve.process import Record

CERTIFY = """
import sys
from pathlib import Path

from pipeline.certify.backends import Exported
from pipeline.certify.certificate import certify
from pipeline.certify.server import running_server
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset
from pipeline.export.build import self_description
from pipeline.export.fold import fold
from pipeline.export.graph import to_onnx
from pipeline.promote.gate import correct_answers
from tests.zoo import ConvNet

data, network, model = load_dataset(), ConvNet(64).eval(), Path(sys.argv[1])
data = data._replace(test_images=data.test_images[:2000], test_labels=data.test_labels[:2000])
described = self_description("batchnorm_mlp", network, data.test_images)
model.write_bytes(to_onnx(network, "wide", described).SerializeToString())
with running_server(f"{model.stem}={model}") as server:
    found = certify(Exported(network, fold(network), model, server), data, load_params().certify)
correct_answers(model.read_bytes(), data)
(status,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(found["passed"], status.split()[1])  # getrusage has the peak of the parent, too
"""


@pytest.mark.slow
def test_a_wide_convolutional_network_is_certified_in_less_than_2_gb(
    tmp_path: object, record_property: Record
) -> None:
    command = [sys.executable, "-c", CERTIFY, f"{tmp_path}/wide.onnx"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    passed, kilobytes = done.stdout.split()[-2:]
    record_property("memory", f"{int(kilobytes) / 1e6:.2f} GB")
    assert passed == "True"
    assert int(kilobytes) < 2_000_000
