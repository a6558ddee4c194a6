"""HEF files and the settings with which they are configured into a device."""

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort.errors import ExceptionWrapper, HailoRTException
from hailo_platform.standin import hef
from hailo_platform.standin.status import check, wanted


def infos_of(streams, network, direction):
    """What a HEF's infos say of these streams."""
    way = _pyhailort.StreamDirection[direction]
    return [_pyhailort.VStreamInfo(one, network, way) for one in streams]


class HEF:
    """A compiled model, from a path (str) or its bytes."""

    def __init__(self, hef_source):
        with ExceptionWrapper():
            if isinstance(hef_source, str):
                self._hef = hef.read(hef_source)
                self._path = hef_source
            elif isinstance(hef_source, bytes):
                self._hef = hef.parse(hef_source)
                self._path = None
            else:
                message = "HEF can only be created from a file path (str) or a buffer (bytes)"
                raise ValueError(message)

    @property
    def path(self):
        return self._path

    def get_network_group_names(self):
        return [self._hef.name]

    def get_networks_names(self, network_group_name=None):
        with ExceptionWrapper():
            self._addressed(network_group_name)
            return [self._hef.network]

    def get_input_vstream_infos(self, name=None):
        self._addressed(name)
        return infos_of(self._hef.inputs, self._hef.network, "H2D")

    def get_output_vstream_infos(self, name=None):
        self._addressed(name)
        return infos_of(self._hef.outputs, self._hef.network, "D2H")

    def get_all_vstream_infos(self, name=None):
        return self.get_input_vstream_infos(name) + self.get_output_vstream_infos(name)

    def get_sorted_output_names(self, network_group_name=None):
        with ExceptionWrapper():
            self._addressed(network_group_name)
            return [one.name for one in self._hef.outputs]

    def bottleneck_fps(self, network_group_name=None):
        with ExceptionWrapper():
            self._addressed(network_group_name)
            if self._hef.fps == 0:
                message = "bottleneck_fps is zero"
                raise HailoRTException(message)
            return self._hef.fps

    def get_vstream_name_from_original_name(self, original_name, network_group_name=None):
        with ExceptionWrapper():
            self._addressed(network_group_name)
            streams = self._hef.inputs + self._hef.outputs
            names = [one.name for one in streams if one.onnx == original_name]
            check(names, "HAILO_NOT_FOUND", f"Failed to find {original_name}")
            return names[0]

    def get_original_names_from_vstream_name(self, vstream_name, network_group_name=None):
        with ExceptionWrapper():
            self._addressed(network_group_name)
            streams = self._hef.inputs + self._hef.outputs
            names = [one.onnx for one in streams if one.name == vstream_name]
            check(names, "HAILO_NOT_FOUND", f"Failed to find {vstream_name}")
            return names

    def _addressed(self, name):
        known = (None, "", self._hef.name, self._hef.network)
        check(name in known, "HAILO_NOT_FOUND", f"Network or network group {name!r} was not found")


class ConfigureParams:
    """Settings with which a HEF goes into a device, by network group."""

    @staticmethod
    def create_from_hef(hef, interface):  # the names are the real one's
        with ExceptionWrapper():
            wanted(interface, _pyhailort.StreamInterface, "create_configure_params")
            check(
                interface is _pyhailort.StreamInterface.PCIe,
                "HAILO_INVALID_ARGUMENT",
                "stand-in: its chips sit on PCIe",
            )
            inner = hef._hef
            streams = {one.name: None for one in inner.inputs + inner.outputs}
            return {
                inner.name: _pyhailort.ConfigureNetworkParams(
                    batch_size=0,
                    power_mode=_pyhailort.PowerMode.PERFORMANCE,
                    stream_params_by_name=streams,
                    network_params_by_name={inner.network: _pyhailort.NetworkParams(batch_size=0)},
                )
            }
