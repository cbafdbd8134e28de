"""interalign's command line in processes on the CPU that share the weights by FSDP.

Accelerate divides weights on GPUs only. Here it is told that it may do so on a CPU: all that then runs is its own.
"""

from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

_as_built = AcceleratorState.__init__


def _divided(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **named: Any) -> None:
    _as_built(self, *args, fsdp_plugin=fsdp_plugin, **named)
    if fsdp_plugin is not None and self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    from interalign.cli import main

    AcceleratorState.__init__ = _divided
    main()
