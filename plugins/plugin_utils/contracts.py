# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What passes between the rooms: one written type for each thing.

Node code runs on Python 3.7, which has no TypedDict: it imports these under TYPE_CHECKING alone.
A key that may be missing is in a class with total=False; a value that may be unknown is None.
tests/unit/test_contracts.py holds recorded facts, and what the functions return, against these.
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Registry,
    Setting,
    Translated,
)

#: An object of the Kubernetes API or of docker's, as JSON: others say what is in it.
Object = dict[str, t.Any]
Runtime = t.Literal["dockershim", "containerd", "cri-dockerd", "cri-o", "unknown"]


# --- Facts of a node: runtime_info of node_runtime_info, a class for each gather_subset ---


class OsFacts(t.TypedDict):
    id: str | None
    pretty_name: str | None
    kernel: str
    architecture: str
    cgroup_version: int
    systemd: bool


class KubernetesFacts(t.TypedDict):
    node_name: str
    control_plane: bool
    kubectl: str | None
    admin_conf: str | None


class ApiFacts(t.TypedDict):
    """Whether the node can ask the API about itself as the switch will."""

    kubeconfig: str
    error: str | None


class FlagsFile(t.TypedDict):
    """An environment file with the kubelet's flags in one of its variables."""

    path: str
    variable: str
    exists: bool
    words: list[str]
    error: str | None


class UnitDependency(t.TypedDict):
    """A line of a unit that ties it to another unit."""

    file: str
    key: str
    value: str


class KubeletFacts(t.TypedDict):
    binary: str | None
    version: str | None
    pid: int | None
    command_line: list[str]
    flags: dict[str, str]
    flag_sources: dict[str, str | None]
    needs_docker: list[UnitDependency]
    home: str
    kubeadm_flags: FlagsFile
    extra_args: list[FlagsFile]
    config_path: str
    config_text: str | None
    config_error: str | None
    endpoint: str | None
    runtime: Runtime | None
    supports_image_pinning: bool


class DaemonJson(t.TypedDict):
    path: str
    exists: bool
    value: dict[str, object]
    error: str | None
    duplicates: list[str]


class ContainerPod(t.TypedDict):
    namespace: str | None
    name: str | None
    uid: str | None


class _Container(t.TypedDict):
    id: str
    name: str
    image: str | None
    state: str | None
    owner: t.Literal["kubernetes", "user"]


class DockerContainer(_Container, total=False):
    #: Of Kubernetes' containers.
    type: str | None
    pod: ContainerPod
    #: Of the user's.
    project: str | None
    swarm_service: str | None
    #: Of the user's that were still there when they were looked at.
    started_at: str | None
    pid: int | None
    restart_count: int | None


class DockerImage(t.TypedDict):
    id: str
    tags: list[str]
    digests: list[str]
    size: int


class DockerStorage(t.TypedDict):
    """What decides whether docker's layers can be adopted."""

    root_dir: str | None
    storage_driver: str | None
    driver_status: dict[str, str]
    userns_remap: bool
    rootless: bool


class _Docker(t.TypedDict):
    binary: str | None
    active: bool
    command_line: list[str]
    flags: dict[str, list[str]]
    certs_d: dict[str, list[str]]
    environment: dict[str, str]
    daemon_json: DaemonJson
    containers: list[DockerContainer]
    images: list[DockerImage]
    stops_with: list[str]
    error: str | None


class DockerFacts(_Docker, total=False):
    #: Where docker answers. The first five are DockerStorage's.
    root_dir: str | None
    storage_driver: str | None
    driver_status: dict[str, str]
    userns_remap: bool
    rootless: bool
    version: str | None
    cgroup_driver: str | None
    live_restore: bool | None
    default_runtime: str | None
    runtimes: list[str]
    swarm: str | None
    layer_bytes: int | None


class DockerProcess(t.TypedDict):
    pid: int
    name: str
    unit: str | None
    container: str | None


Kind = t.Literal["unit", "cron", "script"]


class DockerCall(t.TypedDict):
    """A line of a script that calls docker."""

    line: int
    command: str
    purpose: str


class DockerCallInFile(DockerCall):
    path: str
    kind: Kind


class LogAgent(t.TypedDict):
    path: str
    line: int


class DockerUsersFacts(t.TypedDict):
    processes: list[DockerProcess]
    files: list[DockerCallInFile]
    log_agents: list[LogAgent]


class Login(t.TypedDict):
    path: str
    hosts: list[str]
    helpers: list[str]
    kubelet_reads: bool
    error: str | None


class ImportedConfig(t.TypedDict):
    path: str
    text: str


class ContainerdFacts(t.TypedDict):
    binary: str | None
    version: str | None
    active: bool
    config_path: str
    config_text: str | None
    config_error: str | None
    cri_ready: bool
    pins_images: bool
    images: list[str]
    root: str
    snapshotter: str
    imports: list[ImportedConfig]
    #: Of what it reads when it starts, whatever is newer than its process.
    newer_files: list[str]
    #: docker's running containers, as containerd knows them: ID to process ID.
    docker_tasks: dict[str, int]


class PackageChanges(t.TypedDict):
    """What a package manager would do, names of packages each."""

    removed: list[str]
    downgraded: list[str]
    upgraded: list[str]
    #: Those that nothing else needs afterwards, of dnf.
    unused: list[str]
    #: Of those that would be installed, of apt.
    versions: dict[str, str]
    error: str


class CniConfiguration(t.TypedDict):
    path: str
    cni_version: str | None
    error: str | None


class CniFacts(t.TypedDict):
    conf_dir: str
    configurations: list[CniConfiguration]
    bin_dirs: list[str]
    loopback_supports: list[str]
    plugins: list[str]


class JournalFacts(t.TypedDict):
    """What an earlier switch left behind, with the kubelet's flags before it."""

    direction: Direction
    state: JournalState
    start: float
    flags_before: dict[str, str]


class Disk(t.TypedDict):
    path: str
    device: int
    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int
    file_system: str


class DiskFacts(t.TypedDict):
    docker: Disk
    containerd: Disk


class CarryFacts(t.TypedDict):
    """What of a node's facts decides how its images are carried."""

    docker: DockerFacts
    containerd: ContainerdFacts
    disk: DiskFacts


class NodeFacts(CarryFacts):
    """runtime_info with gather_subset: all; with less, a part of it."""

    os: OsFacts
    kubernetes: KubernetesFacts
    kubelet: KubeletFacts
    api: ApiFacts
    docker_users: DockerUsersFacts
    logins: list[Login]
    cni: CniFacts
    journal: JournalFacts | None


class CarryMethod(t.TypedDict):
    method: t.Literal["adopt", "stream"]
    #: Half a sentence.
    why: str


# --- Facts of the cluster: cluster_info of cluster_runtime_info ---


class ClusterNode(t.TypedDict):
    name: str
    roles: list[str]
    ready: bool
    unschedulable: bool
    tainted: bool
    runtime: str
    kubelet: str


class SocketUser(t.TypedDict):
    """A workload that reaches docker's socket or data."""

    namespace: str
    kind: str
    name: str
    nodes: list[str]
    path: str
    via: t.Literal["direct", "parent", "data"]
    purpose: str
    why: str
    active: bool


class DisruptionBudget(t.TypedDict):
    namespace: str
    name: str
    allowed: int
    healthy: int
    desired: int
    expected: int
    nodes: list[str]


class PodPlace(t.TypedDict):
    namespace: str
    name: str
    node: str


class EtcdMembers(t.TypedDict):
    members: int
    ready: int


class ClusterFacts(t.TypedDict):
    error: str | None
    nodes: list[ClusterNode]
    pods: int
    users: list[SocketUser]
    budgets: list[DisruptionBudget]
    bare_pods: list[PodPlace]
    local_storage: list[PodPlace]
    etcd: EtcdMembers


# --- The switch's journal, /var/lib/homelab-containerd/switch.json: _switch/journal.py has it ---

Direction = t.Literal["containerd", "docker"]
JournalState = t.Literal["running", "done", "rolled_back"]
#: Path to text, None where there is no such file.
Files = dict[str, str | None]


class JournalStep(t.TypedDict):
    name: str
    #: Seconds since the epoch, as all times of the journal.
    start: float


class _Journal(t.TypedDict):
    version: int
    direction: Direction
    state: JournalState
    start: float
    steps: list[JournalStep]
    files_after: Files


class JournalData(_Journal, total=False):
    #: Once it has ended.
    end: float
    #: Once the node was switched to containerd; a switch to docker leaves them.
    files_before: Files
    files_containerd: Files
    #: namespace/name of the pods that were ready when it was started.
    waited_for: list[str]


class SwitchStep(t.TypedDict):
    """A step in switch_runtime's result."""

    name: str
    start: float
    end: float
    delta: float


# --- The job that holds a node's lock: /var/lib/homelab-containerd/lock ---


class Job(t.TypedDict):
    #: The module, and the direction where it has one: "switch_runtime to containerd".
    kind: str
    pid: int
    #: In ticks since the boot: a number may be another process's later.
    process_start: int
    #: Seconds since the epoch, by the node's clock.
    since: float
    #: User and controller; empty where unknown.
    started_by: str
    #: Empty where nobody can attach to it.
    progress_file: str


# --- What a node was like before: /var/lib/homelab-containerd/before.json ---


class Owner(t.TypedDict):
    kind: str
    name: str


class ContainerBefore(t.TypedDict):
    name: str
    image: str
    imagePullPolicy: str | None
    imageID: str | None


class PodBefore(t.TypedDict):
    namespace: str
    name: str
    uid: str
    owner: Owner | None
    phase: str | None
    ready: bool
    containers: list[ContainerBefore]
    volumes: list[str]


class LocalImage(t.TypedDict):
    id: str
    tags: list[str]


class Probe(t.TypedDict):
    """A command in a pod, and the checksum of what it printed before the switch."""

    namespace: str
    pod: str
    command: list[str]
    sha256: str


class BeforeSnapshot(t.TypedDict):
    time: str
    node: str
    #: The start of the last switch that had ended by then.
    after_switch: float | None
    unschedulable: bool
    runtime: str
    pods: list[PodBefore]
    owner_containers: list[DockerContainer]
    local_only_images: list[LocalImage]
    docker_images: list[DockerImage]
    probes: list[Probe]


# --- Findings and plans: what the filters plan and cluster_plan return ---


class Evidence(t.TypedDict):
    """Where something was found."""

    #: A node's name in the inventory or in the API, several with ", " between them, or "cluster".
    node: str | None
    file: str | None
    key: str | None
    value: object


class Finding(t.TypedDict):
    #: A key of plan/codes.yml.
    code: str
    text: str
    evidence: Evidence
    remedy: str


class FoundFindings(t.TypedDict):
    warnings: list[Finding]
    blockers: list[Finding]
    overridden: list[Finding]


#: As a play has it.
Serial = int | str | list[int | str]


class PlanOptions(t.TypedDict, total=False):
    """What a person chooses; the roles' options of these names say what each is."""

    #: The node's name in the inventory.
    node: str
    containerd_install: t.Literal["", "keep", "package", "docker_repository", "tarball"]
    containerd_version: str | None
    #: What check_packages says against the installation.
    install_problem: str
    registries: list[Registry]
    overrides: list[str]
    drain: bool
    serial: Serial
    buildkit: bool
    verify: bool
    carry_method: t.Literal["auto", "adopt", "stream"]
    carry_restore: t.Literal["never", "local_only", "all"]
    carry_reserve_bytes: int


Phase = t.Literal["prepare", "switch", "buildkit", "verify"]


class PlanStep(t.TypedDict):
    phase: Phase
    text: str
    #: An estimate.
    seconds: float
    bytes: int
    #: Whether pods are away meanwhile.
    outage: bool


class OwnContainer(t.TypedDict):
    """A user-managed container."""

    name: str
    image: str | None
    state: str | None
    project: str
    swarm: bool


class PlanSummary(t.TypedDict):
    os: str | None
    kernel: str
    cgroup_version: int
    docker_version: str | None
    containerd_version: str | None
    storage_driver: str | None
    control_plane: bool
    pods: int
    containers_kubernetes: int
    containers_own: list[OwnContainer]
    images: int
    image_bytes: int


class PlannedContainerd(t.TypedDict):
    install: str
    version: str | None
    config_version: int | None


class Plan(FoundFindings):
    """assess_plan."""

    node: str
    node_name: str
    state: t.Literal["migrate", "done"]
    #: Whether a switch was interrupted.
    unfinished: bool
    #: Whether this collection has switched the node before.
    ours: bool
    runtime: Runtime | None
    kubelet_version: str | None
    containerd: PlannedContainerd
    cgroup_driver: str
    sandbox_image: str
    cni_bin_dirs: list[str]
    cni_conf_dir: str
    registries: list[Registry]
    #: docker's configuration.
    translation: Translated
    settings: list[Setting]
    summary: PlanSummary
    carry: CarryMethod
    steps: list[PlanStep]


class PlannedNode(ClusterNode):
    #: Its name in the inventory, empty if it is not there.
    host: str


class ClusterPlan(FoundFindings):
    """assess_cluster."""

    kubernetes_version: str | None
    nodes: list[PlannedNode]
    pods: int
    docker_sock_users: list[SocketUser]
    #: Inventory names, in the order of the switch.
    order: list[str]
    #: Names in the API of the nodes that are drained.
    drained: list[str]


# --- The report: report.json, which docs/report.schema.json describes for others ---


Severity = t.Literal["blocker", "warning", "overridden"]


class ReportFinding(Finding):
    severity: Severity
    #: The section of docs/codes.md.
    doc: str


class ReportSetting(t.TypedDict):
    """What happens to a setting of docker."""

    key: str
    value: object
    origin: str
    outcome: str
    to: str
    text: str
    remedy: str


class ReportContainer(t.TypedDict):
    name: str
    image: str
    state: str
    project: str
    swarm: bool


class ReportSummary(t.TypedDict):
    os: str
    kernel: str
    docker_version: str
    containerd_version: str
    storage_driver: str
    pods: int
    containers_kubernetes: int
    images: int
    image_bytes: int
    cgroup_version: int
    control_plane: bool
    containers_own: list[ReportContainer]
    kubelet_version: str
    cgroup_driver: str


class NodeBefore(t.TypedDict):
    time: str | None
    runtime: str
    ready: bool | None
    pods: int
    images: int
    image_bytes: int
    containers_own: int


class NodeAfter(t.TypedDict):
    runtime: str
    ready: bool | None
    pods: int
    pods_ready: int | None
    buildkit: bool


class ActualStep(t.TypedDict):
    name: str
    delta: float


class PodChange(t.TypedDict):
    name: str
    before: str
    after: str


ActualState = t.Literal["switched", "rolled_back", "on_docker", "unfinished", "unchanged"]


class Actual(t.TypedDict):
    """What a migration did to a node; what this run did not measure is None."""

    state: ActualState
    start: str | None
    end: str | None
    outage_seconds: float | None
    running_seconds: float | None
    pods_ready_seconds: float | None
    api_away_seconds: float | None
    images_carried: int
    bytes_carried: int
    carry_seconds: float | None
    steps: list[ActualStep]
    pods: list[PodChange]


class PhaseSeconds(t.TypedDict):
    prepare: float
    switch: float
    buildkit: float
    verify: float


class NodeSeconds(t.TypedDict):
    planned: PhaseSeconds
    actual: PhaseSeconds


NodeStatus = t.Literal[
    "blocked",
    "ready",
    "unfinished",
    "done",
    "outside",
    "migrated",
    "rolled_back",
    "on_docker",
    "not_ready",
]


class ReportNode(t.TypedDict):
    #: In the inventory, empty if the node is not there.
    host: str
    name: str
    roles: list[str]
    state: t.Literal["migrate", "done", "outside"]
    status: NodeStatus
    summary: ReportSummary
    before: NodeBefore
    after: NodeAfter
    steps: list[PlanStep]
    settings: list[ReportSetting]
    findings: list[ReportFinding]
    actual: Actual | None
    seconds: NodeSeconds


class ReportUser(t.TypedDict):
    """A workload that uses docker's socket or data."""

    namespace: str
    kind: str
    name: str
    nodes: list[str]
    path: str
    via: str
    purpose: str
    why: str
    active: bool


class ReportCluster(t.TypedDict):
    kubernetes_version: str
    nodes: int
    pods: int
    findings: list[ReportFinding]


class Span(t.TypedDict):
    """When a phase of a node runs, in seconds from the first."""

    host: str
    phase: Phase
    start: float
    end: float
    outage: bool
    text: str


class Timeline(t.TypedDict):
    planned: list[Span]
    actual: list[Span]


class Verification(t.TypedDict):
    name: str
    host: str
    outcome: str
    seconds: float


class Totals(t.TypedDict):
    seconds: float
    actual_seconds: float | None
    outage_seconds: float
    bytes: int
    images: int
    image_bytes: int
    containers_own: int
    blockers: int
    warnings: int
    overridden: int


Verdict = t.Literal["blocked", "ready", "done", "migrated", "incomplete"]


class Report(t.TypedDict):
    schema: t.Literal["homelab.containerd/report/1"]
    mode: t.Literal["assess", "migrate"]
    time: str
    verdict: Verdict
    cluster: ReportCluster
    docker_sock_users: list[ReportUser]
    order: list[str]
    nodes: list[ReportNode]
    timeline: Timeline
    verification: list[Verification]
    totals: Totals
