# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import datetime
import html.parser
import json
import re
import types
import typing as t

import jsonschema
import pytest
import report_samples as samples
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import clean
from ansible_collections.homelab.containerd.plugins.plugin_utils import contracts, wording
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import Report
from ansible_collections.homelab.containerd.plugins.plugin_utils.report import model
from ansible_collections.homelab.containerd.plugins.plugin_utils.report import page as report_page
from ansible_collections.homelab.containerd.plugins.plugin_utils.report import text as report_text
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, read_recorded

VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((ROOT / "docs/report.schema.json").read_text(encoding="utf-8"))
)


def assessed() -> Report:
    plans, cluster = samples.three_nodes()
    return model.build(plans, cluster, now=samples.NOW)


def afterwards() -> Report:
    plans, cluster = samples.without_blockers()
    outcomes, api = samples.migrated()
    return model.build(
        plans, cluster, now=samples.NOW + 700, mode="migrate", outcomes=outcomes, api=api
    )


def lab() -> Report:
    """The lab's one node, as it was recorded."""
    plans, cluster = samples.one_node()
    return model.build(plans, cluster, now=samples.NOW)


MADE = {"assessed": assessed, "afterwards": afterwards, "lab": lab}


@pytest.fixture(params=MADE)
def made(request) -> t.Any:
    return MADE[request.param]()


def test_the_schema_is_one():
    VALIDATOR.check_schema(VALIDATOR.schema)


def test_a_report_is_as_its_schema_says(made):
    VALIDATOR.validate(json.loads(json.dumps(made, allow_nan=False)))


def test_the_schema_refuses_what_is_not_in_it(made):
    made["nodes"][0]["secret"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="secret"):
        VALIDATOR.validate(made)


def shape(kind: t.Any) -> t.Any:
    """A type of contracts.py as a schema says it: keys and types, without descriptions."""
    if t.is_typeddict(kind):
        hints = t.get_type_hints(kind)
        assert kind.__required_keys__ == set(hints)
        return {key: shape(hint) for key, hint in hints.items()}
    origin, arguments = t.get_origin(kind), t.get_args(kind)
    if origin is list:
        return [shape(arguments[0])]
    if origin is t.Literal:
        return set(arguments)
    if origin is types.UnionType:
        return tuple(sorted((shape(entry) for entry in arguments), key=str))
    names = {str: "string", int: "integer", float: "number", bool: "boolean", object: "any"}
    return {**names, type(None): "null"}[kind]


def schema_shape(schema: dict[str, t.Any]) -> t.Any:
    """The same of a part of report.schema.json."""
    if "$ref" in schema:
        return schema_shape(VALIDATOR.schema["$defs"][schema["$ref"].rpartition("/")[2]])
    if "properties" in schema:
        assert sorted(schema["required"]) == sorted(schema["properties"])
        assert schema["additionalProperties"] is False
        return {key: schema_shape(entry) for key, entry in schema["properties"].items()}
    if "items" in schema:
        return [schema_shape(schema["items"])]
    if "enum" in schema or "const" in schema:
        return set(schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return tuple(sorted((schema_shape(entry) for entry in schema["anyOf"]), key=str))
    kind = schema.get("type", "any")
    return tuple(sorted(kind)) if isinstance(kind, list) else kind


def test_the_schema_and_the_contract_agree():
    assert schema_shape(VALIDATOR.schema) == shape(contracts.Report)


def test_building_leaves_its_input_alone():
    plans, cluster = samples.three_nodes()
    kept = copy.deepcopy(plans), copy.deepcopy(cluster)
    model.build(plans, cluster, now=samples.NOW)
    assert repr((plans, cluster)) == repr(kept)


def test_verdicts():
    assert assessed()["verdict"] == "blocked"
    plans, cluster = samples.without_blockers()
    assert model.build(plans, cluster, now=0)["verdict"] == "ready"
    # A blocker of the cluster alone is one too.
    objects = samples.answer()
    worker = next(e for e in objects["items"] if e["metadata"]["name"] == "worker1")
    worker["status"]["conditions"] = []
    found = model.build(plans, samples.cluster(plans, objects), now=0)
    assert found["verdict"] == "blocked" and "HC121" in report_text.text(found)

    done = [samples.plan(read_recorded("runtime_info-containerd.json"))]
    assert model.build(done, samples.cluster(done), now=0)["verdict"] == "done"

    assert afterwards()["verdict"] == "incomplete"
    outcomes, api = samples.migrated()
    good = [outcome for outcome in outcomes if outcome["node"] != "worker1"]
    plans = [plan for plan in plans if plan["node"] != "worker1"]
    found = model.build(plans, cluster, now=0, mode="migrate", outcomes=good, api=api)
    assert found["verdict"] == "migrated"


def test_a_node_that_is_not_ready_afterwards_is_no_success():
    plans, cluster = samples.without_blockers()
    outcomes, api = samples.migrated()
    node = next(item for item in api["items"] if item["metadata"]["name"] == "cp1")
    for condition in node["status"]["conditions"]:
        condition["status"] = "False"
    found = model.build(plans, cluster, now=0, mode="migrate", outcomes=outcomes, api=api)
    assert [node["status"] for node in found["nodes"]] == ["not_ready", "migrated", "rolled_back"]
    assert "cp1: from docker 20.10.24 to containerd 1.6.20, not Ready" in report_text.text(found)


def test_the_plans_times_follow_its_order():
    """All prepare at once, then one node after the other, and tests from node to node."""
    found = assessed()
    assert found["order"] == ["cp1", "worker2", "worker1"]

    def span(host: str, phase: str) -> tuple[float, float]:
        bars = [
            span
            for span in found["timeline"]["planned"]
            if (span["host"], span["phase"]) == (host, phase)
        ]
        return min(span["start"] for span in bars), max(span["end"] for span in bars)

    prepare = [step["seconds"] for step in found["nodes"][2]["steps"] if step["phase"] == "prepare"]
    slowest = sum(prepare)
    assert {span(host, "prepare")[0] for host in found["order"]} == {0}
    assert span("worker1", "prepare")[1] == pytest.approx(slowest, abs=0.1)
    assert span("cp1", "switch") == pytest.approx((slowest, slowest + 30), abs=0.1)
    assert span("worker2", "switch")[0] == span("cp1", "switch")[1]
    assert span("worker1", "switch")[0] == span("worker2", "switch")[1]
    assert {span(host, "buildkit")[0] for host in found["order"]} == {span("worker1", "switch")[1]}
    assert span("worker2", "verify")[0] == span("cp1", "verify")[1]
    assert found["totals"]["seconds"] == span("worker1", "verify")[1]
    assert found["totals"]["outage_seconds"] == 30


@pytest.mark.parametrize("serial", [2, "2", "100%"])
def test_workers_switch_as_many_at_once_as_serial_says(serial):
    plans, cluster = samples.three_nodes()
    found = model.build(plans, cluster, now=0, serial=serial)
    starts = {
        span["host"]: span["start"]
        for span in reversed(found["timeline"]["planned"])
        if span["phase"] == "switch"
    }
    assert starts["worker1"] == starts["worker2"] > starts["cp1"]


@pytest.mark.parametrize("serial", [0, "", "some", "[1, 2]", "0%"])
def test_a_serial_that_is_not_understood_is_one(serial):
    plans, cluster = samples.three_nodes()
    one = model.build(plans, cluster, now=0, serial=1)
    assert model.build(plans, cluster, now=0, serial=serial) == one


def test_what_happened_is_timed_by_one_clock():
    found = afterwards()
    bars = [span for span in found["timeline"]["actual"] if span["host"] == "cp1"]
    assert [(span["phase"], span["start"], span["end"], span["outage"]) for span in bars] == [
        ("prepare", 0, 9, False),
        ("prepare", 9, 59, False),
        ("switch", 200, 224, False),
        ("switch", 224, 226.6, True),
        ("switch", 226.6, 249.6, True),
        ("buildkit", 420, 445, False),
        ("verify", 445, 630, False),
    ]
    assert found["totals"]["actual_seconds"] == 630
    actual = found["nodes"][0]["actual"]
    assert actual and actual["start"] == "2026-11-25T00:03:44Z"


def test_without_the_runs_own_notes_the_journal_speaks():
    """The playbook report alone, after a migration that failed."""
    plans, cluster = samples.without_blockers()
    outcomes, api = samples.migrated()
    records = [
        {key: outcome[key] for key in ("node", "before", "journal", "buildkit")}
        for outcome in outcomes
    ]
    found = model.build(plans, cluster, now=0, mode="migrate", outcomes=records, api=api)
    VALIDATOR.validate(found)
    assert [span["text"] for span in found["timeline"]["actual"]] == [
        "switched",
        "switched",
        "went back to docker",
    ]
    assert "went back to docker by itself" in report_text.text(found)


def test_the_tests_outcomes_know_their_node():
    assert [(test["name"], test["host"]) for test in afterwards()["verification"]] == [
        ("test_runtime.py::test_endpoint", "cp1"),
        ("test_cri.py::test_pull[docker.io]", "worker2"),
    ]


def test_a_node_that_the_inventory_lacks_is_shown():
    plans, _cluster = samples.without_blockers()
    plans = plans[:-1]
    found = model.build(plans, samples.cluster(plans, samples.answer()), now=0)
    VALIDATOR.validate(found)
    assert (found["nodes"][-1]["name"], found["nodes"][-1]["status"]) == ("worker1", "outside")
    assert "not in inventory" in report_text.text(found)
    assert "not in the inventory" in report_page.page(found)


def test_users_of_the_socket_have_their_nodes():
    found = assessed()
    assert {user["name"]: user["nodes"] for user in found["docker_sock_users"]} == {
        "runner": ["worker1"],
        "cadvisor" + samples.SCRIPT: ["worker1", "worker2"],
        "logs": ["worker2"],
        "prune": [],
        "nightly-" + clean(samples.ESCAPES): [],
    }
    text = report_text.text(found)
    assert "Deployment ci runner, on worker1: builds images" in text
    assert "on worker1, worker2: monitors" in " ".join(text.split())
    assert "DaemonSet ci logs, on worker2: reads log files" in text
    assert "CronJob ci prune, no pod now: removes unused images" in text
    # cadvisor is drawn on both nodes, and what has no pod in a box of its own.
    drawn = [shape.get("text", "") for shape in report_page.picture(found, "before")["shapes"]]
    assert sum(text.startswith("ci/cadvisor") for text in drawn) == 2
    assert drawn.count("docker.sock is used by, without a pod now") == 1
    assert "no pod now" in report_page.page(found)


def test_findings_that_nodes_share_are_one_thing_to_do():
    groups = model.grouped(model.all_findings(assessed()))
    assert groups[0]["code"] == "HC104" and groups[0]["nodes"] == ["worker2", "worker1"]
    severities = [group["severity"] for group in groups]
    assert severities == sorted(severities) and severities.count("blocker") == 1
    assert len({group["code"] for group in groups}) == len(groups)
    # A finding about several nodes has the inventory's names of all of them.
    (users,) = [group for group in groups if group["code"] == "HC203"]
    assert users["nodes"] == ["worker1", "worker2", "cluster"]
    (local,) = [group for group in groups if group["code"] == "HC202"]
    assert local["nodes"] == ["cp1", "worker2", "worker1"]
    # One sentence for the two workers, another for cp1, which has an image less.
    assert [len(case["evidence"]) for case in local["cases"]] == [1, 2]


def test_a_finding_leads_to_its_section_in_the_docs():
    finding = model.all_findings(assessed())[0]
    page = (ROOT / "docs/codes.md").read_text(encoding="utf-8")
    heading = next(line for line in page.splitlines() if line.startswith("## HC104: "))
    assert finding["doc"] == "docs/codes.md#hc104-" + heading[10:].replace(" ", "-")


@pytest.mark.parametrize("width", [80, 96, 100])
@pytest.mark.parametrize("verbose", [False, True])
def test_the_terminal_gets_lines_that_fit_and_do_nothing(made, verbose, width):
    for line, _colour in report_text.lines(made, verbose, width):
        assert len(line) <= width
        assert line.isprintable()


def test_a_cluster_is_one_screen():
    shown = [line for line, _colour in report_text.lines(assessed())]
    assert len(shown) <= 45
    text = "\n".join(shown)
    # Blockers first and whole, warnings after them, then what will happen.
    places = [
        text.index(part)
        for part in (
            "The migration is blocked by 2 findings",
            "HC104 blocks worker2, worker1",
            "/var/lib/kubelet/config.yaml, cgroupDriver = cgroupfs",
            "> Give both the same",
            "HC201",
            "1. Prepare all nodes",
            "2. Switch cp1",
            "3. Switch worker2",
            "5. Install BuildKit",
        )
    ]
    assert places == sorted(places)
    assert "about 5 min, 9.4 GB" in text
    # That is left for -v.
    assert "Name its registries one by one" not in text
    assert "registry-mirrors" not in text


def test_verbose_has_all_of_it():
    text = report_text.text(assessed())
    for part in ("Name its registries one by one", "registry-mirrors", "pihole", "ci runner"):
        assert part in text
    # What all nodes share is said once, and what differs with the node's name.
    assert text.count("- keep containerd 1.6.20~ds1 and enable its CRI") == 1
    assert "- cp1: adopt 10 images (451 MB of layers) in place" in text
    assert "- worker1: adopt 11 images (6.2 GB of layers) in place" in text


def test_many_nodes_and_findings_stay_few_lines():
    """A blocker of thirty nodes names some; with -v it names all."""
    plans = []
    for number in range(30):
        node = samples.facts("worker%d" % number)
        node["docker"].update(error="GET /info: refused %d" % number)
        plans.append(samples.plan(node))
    found = model.build(plans, {}, now=0)
    brief = report_text.text(found, verbose=False)
    assert "HC110 blocks worker0, worker1, worker2, worker3 and 26 more" in brief
    assert "Switch 30 nodes, in the order above" in brief and "Switch worker7" not in brief
    assert "Switch worker7" in report_text.text(found)
    assert "refused 5" not in brief and "refused 29" in report_text.text(found)


def test_measured_and_estimated_times():
    for seconds, text in ((0, "0 s"), (2.64, "2.6 s"), (27, "27 s"), (254, "4 min 14 s")):
        assert wording.duration(seconds) == text
    assert wording.duration(4800) == "80 min" and wording.duration(9000) == "2 h 30 min"
    for seconds, text in ((0.2, "1 s"), (27, "25 s"), (254, "4 min"), (9000, "2 h 30 min")):
        assert wording.about(seconds) == text
    for count, text in ((0, "0 bytes"), (999_700, "1.0 MB"), (451e6, "451 MB"), (6.2e9, "6.2 GB")):
        assert wording.size(count) == text


class _Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_is_whole_and_needs_nothing_else(made):
    source = report_page.page(made)
    page = _Page(source)
    assert page.open == []
    tags = {tag for tag, _attributes in page.tags}
    assert "svg" in tags and not tags & {"script", "iframe", "img", "object", "embed", "form"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith(("#", "data:,")), attributes
        assert "src" not in attributes
    assert "url(" not in source and "@import" not in source
    ids = [attributes["id"] for _tag, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _tag, attributes in page.tags:
        target = attributes.get("href") or ""
        if target.startswith("#"):
            assert target[1:] in ids


def test_headings_have_no_gaps(made):
    page = _Page(report_page.page(made))
    levels = [int(tag[1]) for tag, _attributes in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_the_page_says_what_the_codes_mean():
    words = " ".join(" ".join(_Page(report_page.page(assessed())).words).split())
    assert "HC104: the kubelet and docker use different cgroup drivers" in words
    assert "Two cgroup managers make a node unstable" in words
    assert "Overridden: containerd uses the kubelet's driver." in words
    # What is `code` in codes.yml is an element here.
    assert "`" not in words and "**" not in words


def test_hostile_names_are_text():
    source = report_page.page(assessed())
    assert "<script" not in source and "&lt;script&gt;" in source
    for text in (source, report_text.text(assessed()), json.dumps(assessed())):
        assert not set(text) & set("\x1b\x07\u202e\ud800\r")
    assert "\\x1b[31mred" in report_text.text(assessed())


def test_large_clusters_have_a_picture_of_some_size():
    plans = []
    for number in range(60):
        node = samples.facts("worker%d" % number)
        pod = next(e for e in node["docker"]["containers"] if e["owner"] == "kubernetes")
        node["docker"]["containers"] = [
            dict(pod, pod=dict(pod["pod"], name=str(index))) for index in range(250)
        ]
        plans.append(samples.plan(node))
    found = model.build(plans, {}, now=0)
    drawn = report_page.picture(found, "before")
    assert len(drawn["shapes"]) < 2500
    assert any(shape.get("text") == "and 36 more nodes" for shape in drawn["shapes"])


TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def quoting(name: str, image: str, text: str, value: t.Any) -> Report:
    """The report of a node and a cluster that have these wherever their owner can write."""
    node = samples.facts("node1")
    node["os"]["pretty_name"] = text
    node["docker"]["containers"].append(samples.own_container(name, image, text))
    node["docker"]["daemon_json"]["value"] = {name: value}
    node["docker"]["runtimes"].append(name)
    call = {"line": 1, "command": "docker " + name, "purpose": "builds", "kind": "script"}
    node["docker_users"]["files"] = [dict(call, path=text)]
    user = samples.user("CronJob", name, "/run/docker.sock", image=image, args=[text])
    objects = samples.answer()
    objects["items"].append(user)
    plans = [samples.plan(node)]
    return model.build(plans, samples.cluster(plans, objects), now=samples.NOW)


TAGS = {
    tag
    for found in (quoting("x", "x", "x", "x"), assessed())
    for tag, _attributes in _Page(report_page.page(found)).tags
}


@given(name=TEXT, image=TEXT, text=TEXT, value=VALUE)
def test_whatever_comes_from_nodes_is_shown_harmlessly(name, image, text, value):
    found = quoting(name, image, text, value)
    VALIDATOR.validate(json.loads(json.dumps(found, allow_nan=False)))
    for verbose in (False, True):
        for line, _colour in report_text.lines(found, verbose):
            assert line.isprintable() and len(line) <= 96
    page = report_page.page(found)
    page.encode("utf-8")
    assert {tag for tag, _attributes in _Page(page).tags} <= TAGS


@given(
    plan=st.fixed_dictionaries(
        {"node": TEXT},
        optional={
            "state": st.sampled_from(["migrate", "done"]),
            "summary": st.none() | st.just({}),
            "steps": st.none() | st.just([]),
            "containerd": st.none() | st.just({}),
            "warnings": st.none(),
        },
    )
)
def test_what_is_missing_is_no_error(plan):
    found = model.build([plan], None, now=0, mode="migrate", outcomes=[{"node": plan["node"]}])
    VALIDATOR.validate(found)
    report_text.text(found)
    report_page.page(found)


def test_the_time_is_utc():
    stamp = datetime.datetime.fromisoformat(assessed()["time"].replace("Z", "+00:00"))
    assert stamp.timestamp() == samples.NOW
