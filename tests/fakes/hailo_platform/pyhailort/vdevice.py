"""A virtual device: the chips a process holds for inference, and the models put into them."""

import gc
import os

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort.control import Device
from hailo_platform.pyhailort.errors import ExceptionWrapper, HailoRTException
from hailo_platform.pyhailort.infer_model import InferModel
from hailo_platform.pyhailort.network import ConfiguredNetwork
from hailo_platform.standin import chip, engine, hef
from hailo_platform.standin.status import check, fail, wanted


class Held:
    """The chip that a virtual device holds. A released one is None to its VDevice, as really."""

    def __init__(self, params, device_ids):
        if params.multi_process_service:
            fail("HAILO_RPC_FAILED", "stand-in: no HailoRT service runs here")
        if params.group_id != "UNIQUE":
            fail("HAILO_NOT_IMPLEMENTED", "stand-in: it shares no device by group_id")
        ids = device_ids or params.device_ids
        check(
            (len(ids) or params.device_count) == 1,
            "HAILO_NOT_IMPLEMENTED",
            "stand-in: one chip a VDevice",
        )
        ((one, self._file),) = chip.take(ids)
        self.shared = engine.Shared(one, bool(params.scheduling_algorithm))

    def release(self):
        self.shared.released = True
        self._file.close()

    def get_physical_devices_ids(self):
        return [self.shared.chip.id]

    def configure(self, inner, params):
        for name, value in params.items():
            wanted(value, _pyhailort.ConfigureNetworkParams, "VDevice.configure")
            check(
                name == inner.name,
                "HAILO_INVALID_ARGUMENT",
                f"Network group {name} was given params, but the HEF has none of that name",
            )
        hef.check_chip(inner, self.shared.chip)
        return ConfiguredNetwork(engine.Engine(inner, self.shared))

    def create_infer_model_from_file(self, path, name):
        wanted(path, str, "create_infer_model_from_file")
        return named(hef.read(path), name)

    def create_infer_model_from_buffer(self, content, name):
        return named(hef.parse(content), name)


def named(inner, name):
    """The HEF, if that is its name or none is asked for."""
    known = name in ("", inner.name)
    check(known, "HAILO_NOT_IMPLEMENTED", "Passing network name is not supported yet!")
    return inner


class VDevice:
    """Holds its chips alone until it is released or the process ends."""

    def __init__(self, params=None, *, device_ids=None):
        gc.collect()
        self._vdevice = None
        self._params = params
        self._loaded_network_groups = []
        self._creation_pid = os.getpid()
        with ExceptionWrapper():
            if self._params is None:
                self._params = VDevice.create_params()
            wanted(self._params, _pyhailort.VDeviceParams, "VDevice.create")
            self._vdevice = Held(self._params, list(device_ids or []))

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.release()
        return False

    def __del__(self):
        self.release()

    def release(self):
        if self._vdevice is not None:
            self._vdevice.release()
            self._vdevice = None

    @staticmethod
    def create_params():
        return _pyhailort.VDeviceParams.default()

    def configure(self, hef, configure_params_by_name=None):  # the names are the real one's
        if self._creation_pid != os.getpid():
            message = "VDevice can only be configured from the process it was created in."
            raise HailoRTException(message)
        with ExceptionWrapper():
            made = self._vdevice.configure(hef._hef, configure_params_by_name or {})
        self._loaded_network_groups.append(made)
        return [made]

    def create_infer_model(self, hef_source, name=""):
        if self._creation_pid != os.getpid():
            message = "InferModel can be created only from the process VDevice was created in."
            raise HailoRTException(message)
        with ExceptionWrapper():
            if isinstance(hef_source, bytes):
                inner = self._vdevice.create_infer_model_from_buffer(hef_source, name)
            else:
                inner = self._vdevice.create_infer_model_from_file(hef_source, name)
            return InferModel(inner, self._vdevice.shared, hef_source)

    def get_physical_devices(self):
        return [Device(device_id) for device_id in self.get_physical_devices_ids()]

    def get_physical_devices_ids(self):
        with ExceptionWrapper():
            return self._vdevice.get_physical_devices_ids()

    @property
    def loaded_network_groups(self):
        return self._loaded_network_groups
