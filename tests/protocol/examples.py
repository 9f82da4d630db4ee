"""One example of every frame, with its exact JSON in protocol 3 and in protocol 2 (None: not said)."""

from dataclasses import dataclass

from msgspec import Raw

from provider_agent.protocol import frames as f
from provider_agent.protocol import vitals as v
from provider_agent.protocol.errors import Stage
from provider_agent.protocol.link import Role


@dataclass(frozen=True)
class Example:
    """A frame and what it is on the wire, in both dialects."""

    sender: Role
    frame: f.Frame
    json: bytes
    legacy: bytes | None

    @property
    def name(self) -> str:
        return type(self.frame).__name__


C, A = Role.COORDINATOR, Role.AGENT

OFFER = f.ModelOffer(
    model_id="llama3.2:3b",
    backend="ollama",
    max_concurrent=4,
    input_per_1m=0,
    output_per_1m=7,
    context_window=131072,
    endpoints=("/v1/chat/completions", "/api/chat"),
    fingerprint="sha256:00",
    warm=True,
    features=("tools", "vision"),
)

EXAMPLES = [
    Example(
        C,
        f.AuthChallenge(nonce="bm9uY2U=", protocol=3, server="c", schemes=("ed25519-bound", "ed25519")),
        b'{"type":"auth_challenge","nonce":"bm9uY2U=","protocol":3,"server":"c",'
        b'"schemes":["ed25519-bound","ed25519"]}',
        b'{"type":"auth_challenge","nonce":"bm9uY2U="}',
    ),
    Example(
        A,
        f.AuthResponse(
            pubkey="cA==",
            signature="cw==",
            agent_version="1.0.0",
            enrollment_code="code",
            protocol=3,
            scheme="ed25519-bound",
        ),
        b'{"type":"auth_response","pubkey":"cA==","signature":"cw==","agent_version":"1.0.0",'
        b'"enrollment_code":"code","protocol":3,"scheme":"ed25519-bound"}',
        b'{"type":"auth_response","pubkey":"cA==","signature":"cw==","agent_version":"1.0.0",'
        b'"enrollment_code":"code"}',
    ),
    Example(
        A,
        f.AuthResponse(
            pubkey="cA==",
            signature="cw==",
            agent_version="1.0.0",
            protocol=3,
            scheme="ed25519-bound",
            resume=f.Resume(session_id="s-1", jobs=(f.ResumeJob(job_id="j", attempt=2, next_seq=7),)),
        ),
        b'{"type":"auth_response","pubkey":"cA==","signature":"cw==","agent_version":"1.0.0",'
        b'"protocol":3,"scheme":"ed25519-bound",'
        b'"resume":{"session_id":"s-1","jobs":[{"job_id":"j","attempt":2,"next_seq":7}]}}',
        b'{"type":"auth_response","pubkey":"cA==","signature":"cw==","agent_version":"1.0.0"}',
    ),
    Example(
        C,
        f.AuthOk(
            provider_id="p-1",
            session_id="s-2",
            protocol=3,
            heartbeat_interval_ms=5000,
            resume_window_ms=60000,
            binary=True,
            resumed=f.Resumed(jobs=(f.ResumedJob(job_id="j", have_seq=-1),), unknown=("k",)),
        ),
        b'{"type":"auth_ok","provider_id":"p-1","session_id":"s-2","protocol":3,"heartbeat_interval_ms":5000,'
        b'"resume_window_ms":60000,"binary":true,'
        b'"resumed":{"jobs":[{"job_id":"j","have_seq":-1}],"unknown":["k"]}}',
        b'{"type":"auth_ok","provider_id":"p-1"}',
    ),
    Example(
        C,
        f.AuthOk(provider_id="p-1", session_id="s-1", protocol=3, heartbeat_interval_ms=5000),
        b'{"type":"auth_ok","provider_id":"p-1","session_id":"s-1","protocol":3,"heartbeat_interval_ms":5000}',
        b'{"type":"auth_ok","provider_id":"p-1"}',
    ),
    Example(
        C,
        f.AuthFailed(reason="no", code="revoked", retry=False, retry_after_ms=1000),
        b'{"type":"auth_failed","reason":"no","code":"revoked","retry":false,"retry_after_ms":1000}',
        b'{"type":"auth_failed","reason":"no"}',
    ),
    Example(
        A,
        f.Capabilities(
            models=(OFFER,),
            limits=f.Limits(max_concurrent_total=8, max_job_bytes=33554432),
            metadata=f.Metadata(agent_version="1.0.0", name="den", labels={"gpu": "4090"}),
            revision=7,
            catalog_fingerprint="sha256:11",
        ),
        b'{"type":"capabilities","models":[{"model_id":"llama3.2:3b","backend":"ollama","max_concurrent":4,'
        b'"input_per_1m":0,"output_per_1m":7,"context_window":131072,'
        b'"endpoints":["/v1/chat/completions","/api/chat"],"fingerprint":"sha256:00","warm":true,'
        b'"features":["tools","vision"]}],'
        b'"limits":{"max_concurrent_total":8,"max_tokens_per_minute":null,"max_job_bytes":33554432},'
        b'"metadata":{"agent_version":"1.0.0","name":"den","labels":{"gpu":"4090"}},'
        b'"revision":7,"catalog_fingerprint":"sha256:11"}',
        b'{"type":"capabilities","models":[{"model_id":"llama3.2:3b","input_per_1m":0,"output_per_1m":7,'
        b'"max_concurrent":4,"backend":"ollama","context_window":131072}],'
        b'"limits":{"max_concurrent_total":8,"max_tokens_per_minute":null},'
        b'"metadata":{"agent_version":"1.0.0"}}',
    ),
    Example(
        C,
        f.CapabilitiesOk(revision=7, rejected=(f.RejectedModel(model_id="m", reason="price"),)),
        b'{"type":"capabilities_ok","revision":7,"rejected":[{"model_id":"m","reason":"price"}]}',
        None,
    ),
    Example(
        C,
        f.Job(
            job_id="Job_1 ~/x",
            model_id="m",
            request=Raw(b'{"b": 1.0, "a":"\\u00e9" }'),
            format=f.Format.ANTHROPIC,
            deadline_ms=60000,
            endpoint="/v1/messages",
            stream=False,
            first_byte_timeout_ms=1,
            idle_timeout_ms=2,
            attempt=3,
            stream_id=4,
            window_bytes=262144,
            traceparent="00-0-0-01",
        ),
        b'{"type":"job","job_id":"Job_1 ~/x","model_id":"m","request":{"b": 1.0, "a":"\\u00e9" },'
        b'"format":"anthropic","deadline_ms":60000,"endpoint":"/v1/messages","stream":false,'
        b'"first_byte_timeout_ms":1,"idle_timeout_ms":2,"attempt":3,"stream_id":4,"window_bytes":262144,'
        b'"traceparent":"00-0-0-01"}',
        b'{"type":"job","job_id":"Job_1 ~/x","model_id":"m","request":{"b": 1.0, "a":"\\u00e9" },'
        b'"format":"anthropic","deadline_ms":60000}',
    ),
    Example(
        C,
        f.JobCancel(job_id="j", reason="client left"),
        b'{"type":"job_cancel","job_id":"j","reason":"client left"}',
        b'{"type":"job_cancel","job_id":"j"}',
    ),
    Example(C, f.JobAck(job_id="j", seq=4), b'{"type":"job_ack","job_id":"j","seq":4}', None),
    Example(
        A,
        f.JobStarted(
            job_id="j",
            backend="ollama",
            upstream_model="m",
            http_status=200,
            content_type="text/event-stream",
        ),
        b'{"type":"job_started","job_id":"j","backend":"ollama","upstream_model":"m","http_status":200,'
        b'"content_type":"text/event-stream"}',
        None,
    ),
    Example(
        A,
        f.JobChunk(job_id='q"\\', data=b"\x00data\xff", seq=5),
        b'{"type":"job_chunk","job_id":"q\\"\\\\","seq":5,"data":"AGRhdGH/"}',
        b'{"type":"job_chunk","job_id":"q\\"\\\\","data":"AGRhdGH/"}',
    ),
    Example(
        A,
        f.JobDone(
            job_id="j",
            tokens=f.Tokens.of(None, 2),
            duration_ms=9,
            seq=1,
            chunks=1,
            bytes=3,
            timings=f.Timings(first_byte_ms=4),
        ),
        b'{"type":"job_done","job_id":"j","tokens":{"input":null,"output":2,"input_tokens":null,'
        b'"output_tokens":2},"duration_ms":9,"seq":1,"chunks":1,"bytes":3,'
        b'"timings":{"first_byte_ms":4,"backend_ms":null,"stalled_ms":null}}',
        b'{"type":"job_done","job_id":"j","tokens":{"input":0,"output":2,"input_tokens":0,"output_tokens":2},'
        b'"duration_ms":9}',
    ),
    Example(
        A,
        f.JobError(
            job_id="j",
            error_code="rate_limited",
            message="slow down",
            tokens_emitted=3,
            bytes_sent=4,
            seq=1,
            stage=Stage.STREAMING,
            retryable=True,
            retry_after_ms=5,
            http_status=429,
            tokens=f.Tokens.of(1, 3),
            duration_ms=6,
        ),
        b'{"type":"job_error","job_id":"j","error_code":"rate_limited","message":"slow down",'
        b'"tokens_emitted":3,"bytes_sent":4,"seq":1,"stage":"streaming","retryable":true,"retry_after_ms":5,'
        b'"http_status":429,"tokens":{"input":1,"output":3,"input_tokens":1,"output_tokens":3},"duration_ms":6}',
        b'{"type":"job_error","job_id":"j","error_code":"internal","message":"slow down","tokens_emitted":3}',
    ),
    Example(
        A,
        f.Heartbeat(
            queue_depth=1,
            tokens_per_sec_p50=2.5,
            error_rate_60s=0.0,
            active_jobs=1,
            free_slots=3,
            draining=False,
            recent_failures=(v.Failure(code="internal", at="2026-01-01T00:00:00Z", model_id="m"),),
            backends=(
                v.BackendStatus(name="o", kind="ollama", healthy=True, active_jobs=1, max_concurrent=None),
            ),
            hardware_pressure=v.HardwarePressure(
                cpu=v.CpuPressure(core_count=8, load_1m_ratio=0.5),
                ram=v.RamPressure(used_ratio=0.25, total_bucket="<=16GiB"),
                gpu=v.GpuPressure(available=True, count=1, vram=v.VramPressure(total_tier="16-31")),
            ),
        ),
        b'{"type":"heartbeat","queue_depth":1,"tokens_per_sec_p50":2.5,"p50_latency_ms":null,'
        b'"p95_latency_ms":null,"error_rate_60s":0.0,"last_error_at":null,"last_error_code":null,'
        b'"active_jobs":1,"max_concurrency":null,"free_slots":3,"draining":false,"avg_latency_ms":null,'
        b'"recent_failures":[{"code":"internal","at":"2026-01-01T00:00:00Z","model_id":"m"}],'
        b'"backends":[{"name":"o","kind":"ollama","healthy":true,"active_jobs":1,"max_concurrent":null}],'
        b'"catalog_fingerprint":null,"uptime_s":null,"agent_version":null,'
        b'"hardware_pressure":{"cpu":{"core_count":8,"load_1m_ratio":0.5},'
        b'"ram":{"used_ratio":0.25,"total_bucket":"<=16GiB"},'
        b'"gpu":{"available":true,"count":1,"vram":{"total_tier":"16-31","used_ratio":null}}}}',
        b'{"type":"heartbeat","queue_depth":1,"tokens_per_sec_p50":2.5,"p50_latency_ms":null,'
        b'"p95_latency_ms":null,"error_rate_60s":0.0,"last_error_at":null,"last_error_code":null}',
    ),
    Example(
        C,
        f.Drain(reason="deploy", deadline_ms=30000),
        b'{"type":"drain","reason":"deploy","deadline_ms":30000}',
        None,
    ),
]
