"""What a heartbeat tells of an agent: its failures, its backends, its machine; knows no frame."""

from provider_agent.protocol.fields import Count, Part


class Failure(Part, frozen=True, kw_only=True):
    """One recent job that failed; `at` is RFC 3339 in UTC."""

    code: str
    at: str
    model_id: str


class BackendStatus(Part, frozen=True, kw_only=True):
    """How one backend of an agent is."""

    name: str
    kind: str
    healthy: bool
    active_jobs: Count
    max_concurrent: Count | None = None


class CpuPressure(Part, frozen=True, kw_only=True):
    """Load average of one minute over the number of cores."""

    core_count: Count
    load_1m_ratio: float


class RamPressure(Part, frozen=True, kw_only=True):
    """Share of memory in use, and a bucket of the whole such as `<=16GiB`."""

    used_ratio: float
    total_bucket: str


class VramPressure(Part, frozen=True, kw_only=True):
    """Tier of the whole (`none lt8 8-15 16-31 32plus`) and the share in use."""

    total_tier: str
    used_ratio: float | None = None


class GpuPressure(Part, frozen=True, kw_only=True):
    """How many GPUs there are; never their names."""

    available: bool
    count: Count
    vram: VramPressure


class HardwarePressure(Part, frozen=True, kw_only=True):
    """Coarse pressure, only when the operator opted in."""

    cpu: CpuPressure
    ram: RamPressure
    gpu: GpuPressure
