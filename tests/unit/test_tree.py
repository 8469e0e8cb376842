# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules that hold for the whole checkout."""

from __future__ import annotations

import ast
import collections
import pathlib
import re
import sys
import typing as t

import pytest
import yaml
from ansible_collections.homelab.containerd.plugins.plugin_utils.options import FACTS
from support import ROOT

ON_NODES = sorted(
    path
    for folder in ("modules", "module_utils")
    for path in (ROOT / "plugins" / folder).rglob("*.py")
)
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
ROLES = sorted(path.parent for path in (ROOT / "roles").glob("*/tasks"))
#: Filters that write the header themselves.
FILTERS = ("containerd_config", "kubelet_config")
#: Where the collection keeps what only it reads.
STATE = "/var/lib/homelab-containerd/"
#: Younger than Python 3.7, and on no node that is older: name to the version that brought it.
YOUNGER = {
    "removeprefix": "3.9",
    "removesuffix": "3.9",
    "cached_property": "3.8",
    "is_relative_to": "3.9",
    "missing_ok": "3.8",
    "dirs_exist_ok": "3.8",
    "to_thread": "3.9",
    "process_group": "3.11",
    "strict": "3.10",
}


def name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def load(path: pathlib.Path) -> t.Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


@pytest.mark.parametrize("path", ON_NODES, ids=name)
def test_what_runs_on_nodes_is_python_3_7(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 7))
    for item in ast.walk(tree):
        if isinstance(item, ast.Attribute) and item.attr in YOUNGER:
            pytest.fail("%s:%d: %s" % (name(path), item.lineno, item.attr))
        if isinstance(item, ast.Call):
            for keyword in item.keywords:
                assert keyword.arg not in YOUNGER, "%s:%d" % (name(path), item.lineno)
            called = item.func
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                assert (called.value.id, called.attr) not in {("shlex", "join"), ("math", "prod")}
    # Otherwise annotations like list[str] would be evaluated.
    assert "from __future__ import annotations" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ON_NODES, ids=name)
def test_what_runs_on_nodes_needs_the_standard_library_alone(path):
    known = {"ansible", "ansible_collections", "__future__"}
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(item, ast.Import):
            modules = [alias.name for alias in item.names]
        elif isinstance(item, ast.ImportFrom):
            modules = [item.module or ""]
        for module in modules:
            first = module.split(".")[0]
            assert first in known or first in sys.stdlib_module_names, "%s: %s" % (
                name(path),
                module,
            )


@pytest.mark.parametrize("path", PLUGINS, ids=name)
def test_plugins_say_their_licence(path):
    head = path.read_text(encoding="utf-8")[:400]
    assert "SPDX-License-Identifier: GPL-3.0-or-later" in head
    assert "GNU General Public License v3.0+" in head


def test_every_code_has_a_section_in_the_docs():
    used = set()
    for path in PLUGINS:
        used |= set(re.findall(r'"(HC\d{3})"', path.read_text(encoding="utf-8")))
    sections = re.findall(
        r"(?m)^## (HC\d{3}): ", (ROOT / "docs/codes.md").read_text(encoding="utf-8")
    )
    assert sections == sorted(used)


def options(role: pathlib.Path) -> dict[str, t.Any]:
    if role.name.startswith("_"):
        # With a spec, even an empty one, Ansible adds a task to each role that depends on this one.
        return {}
    specs = load(role / "meta/argument_specs.yml")
    assert specs, "roles/%s has no meta/argument_specs.yml" % role.name
    # _common has task files for other roles alone, and no main.
    return specs["argument_specs"].get("main", {}).get("options") or {}


@pytest.mark.parametrize("role", ROLES, ids=name)
def test_defaults_and_argument_specs_agree(role):
    defaults = load(role / "defaults/main.yml") or {}
    specified = options(role)
    required = {key for key, option in specified.items() if option.get("required")}
    assert set(specified) - required == set(defaults)
    assert not required & set(defaults)
    for key, value in defaults.items():
        option = specified[key]
        # A default that is computed cannot be said twice.
        computed = "{{" in str(value)
        if computed and "default" not in option:
            continue
        assert option.get("default", "no default in argument_specs") == value, key


@pytest.mark.parametrize("role", ROLES, ids=name)
def test_variables_have_the_roles_name(role):
    for key in load(role / "defaults/main.yml") or {}:
        assert key.startswith(role.name + "_"), key
    for path in (role / "vars").glob("*.yml"):
        for key in load(path) or {}:
            assert key.startswith("__%s_" % role.name.lstrip("_")), key
    for key in options(role):
        assert key.startswith(role.name + "_"), key


@pytest.mark.parametrize("role", ROLES, ids=name)
def test_every_role_has_a_readme_and_a_licence(role):
    assert (role / "README.md").is_file()
    assert load(role / "meta/main.yml")["galaxy_info"]["license"] == "GPL-3.0-or-later"


@pytest.mark.parametrize("role", ROLES, ids=name)
def test_every_option_is_described(role):
    """In the spec, and in the README or on the page of docs/ that the README names."""
    readme = (role / "README.md").read_text(encoding="utf-8")
    pages = re.findall(r"\]\((\.\./\.\./docs/[\w-]+\.md)", readme)
    text = readme + "".join((role / page).read_text(encoding="utf-8") for page in pages)
    for key, option in options(role).items():
        assert option.get("description"), key
        assert "`%s`" % key in text, key


def tasks(value: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """All tasks of a task file, those in blocks too."""
    for task in value or []:
        yield task
        for block in ("block", "rescue", "always"):
            yield from tasks(task.get(block))


TASK_FILES = sorted(
    path
    for folder in ("tasks", "handlers")
    for path in (ROOT / "roles").glob("*/%s/*.yml" % folder)
)


@pytest.mark.parametrize("path", TASK_FILES, ids=name)
def test_written_files_say_who_manages_them(path):
    """In the content, or by the filter that makes it."""
    variables = load(ROOT / "roles/_common/vars/main.yml")
    variables.update(load(path.parents[1] / "vars/main.yml") or {})

    def destination(text: str) -> str:
        for _level in range(3):
            text = re.sub(r"\{\{ (\w+) \}\}", lambda m: str(variables.get(m[1], m[0])), text)
        return text

    for task in tasks(load(path)):
        copy = task.get("ansible.builtin.copy") or {}
        if "content" in copy and not destination(copy["dest"]).startswith(STATE):
            by = ("Ansible managed", *(f"homelab.containerd.{name}(" for name in FILTERS))
            assert any(text in copy["content"] for text in by), task["name"]


#: Modules that write files, and where.
WRITERS = {
    **dict.fromkeys(
        ("copy", "template", "lineinfile", "blockinfile", "replace", "assemble", "get_url"),
        ("{dest}",),
    ),
    # What is in an archive is named by the archive.
    "unarchive": ("{src}",),
    "deb822_repository": (
        *("/etc/apt/sources.list.d/{name}.sources", "/etc/apt/keyrings/{name}.asc"),
        "/etc/apt/keyrings/{name}.gpg",
    ),
    "yum_repository": ("/etc/yum.repos.d/{name}.repo",),
}
#: A file of this name was not there before us, and these roles write on the controller.
OURS = re.compile(r"/homelab-|^" + STATE)
ON_CONTROLLER = ("certificates", "verify", "report")


def named(text: str) -> set[str]:
    """The paths and the roles' variables in a text."""
    words = re.findall(r"/[\w./-]+|\w+(?:\.[A-Za-z_]\w*)*", text)
    roles = "|".join(role.name for role in ROLES)
    found = {word for word in words if re.match(r"/|__|(?:%s)_" % roles, word)}
    return {re.sub(r"\.(keys|items)$", "", word) for word in found}


def written_by(task: dict[str, t.Any], variables: dict[str, t.Any]) -> list[str]:
    """What says which files a task writes: paths, or variables and its loop."""
    found = []
    for module, places in WRITERS.items():
        options = task.get("ansible.builtin." + module) or {}
        for place in places if options else ():
            text = place.format_map(collections.defaultdict(str, options))
            if "item" in text:
                text += " " + str(task.get("loop", ""))
            known = text
            for _level in range(4):
                known = re.sub(
                    r"\{\{ (\w+)[^{}]*\}\}", lambda m: str(variables.get(m[1], m[1])), known
                )
            paths = re.findall(r"/[\w./-]+", known) or [known]
            if module == "unarchive" or not all(OURS.search(path) for path in paths):
                found.append(text)
    return found


def unkept(path: pathlib.Path, kept: set[str]) -> list[str]:
    """Where a task file writes files that may have been the owner's and keeps no originals.

    kept: the files that another task file keeps before, as named() gives them.
    """
    variables = load(ROOT / "roles/_common/vars/main.yml")
    variables.update(load(path.parents[1] / "vars/main.yml") or {})
    found = []
    for task in tasks(load(path)):
        options = task.get("homelab.containerd.keep_original")
        if options is not None:
            kept = kept | named(
                str(options.get("path", "")) + " " + str(options.get("archive", ""))
            )
        for place in written_by(task, variables):
            if not named(place) & kept:
                found.append("%s: %s" % (task["name"], place))
    return found


KEPT_ELSEWHERE = {
    # The role's install.yml does it, before the first configuration.
    "roles/buildkit/tasks/configure.yml": {"__buildkit_files"},
    # Its programs are named by the plan, and the archive has more.
    "roles/buildkit/tasks/install.yml": {"__buildkit_tarball"},
    # Into our own directory; in check mode nothing is written.
    "roles/_common/tasks/download.yml": {"__common_download_dest"},
    # Into the build's own directories.
    "roles/build/tasks/share.yml": {"__build_archive"},
}


@pytest.mark.parametrize("path", TASK_FILES, ids=name)
def test_files_of_the_owner_are_kept_before_they_are_written(path):
    if path.parents[1].name not in ON_CONTROLLER:
        assert unkept(path, KEPT_ELSEWHERE.get(name(path), set())) == []


def test_what_another_task_file_keeps_is_kept_there():
    """BuildKit's files and programs, and the files that usermod writes."""
    kept = [
        str(task["homelab.containerd.keep_original"]["path"])
        for part in ("install", "rootless")
        for task in tasks(load(ROOT / ("roles/buildkit/tasks/%s.yml" % part)))
        if "homelab.containerd.keep_original" in task
    ]
    assert [named(text) for text in kept] == [
        {"__buildkit_plan.programs", "/usr/local/"},
        {"__buildkit_files"},
        {"/etc/subuid", "/etc/subgid"},
    ]


#: write_text of what runs on nodes: what is written, and why no original is needed.
WRITES = {
    ("_switch/switch.py", "path, json.dumps(created)"): "a file of ours, removed at once",
    ("_switch/switch.py", "path, text"): "kept by begin_containerd, before anything stops",
    ("_host/originals.py", "target + NONE, ''"): "the mark of an original that is none",
    ("_switch/journal.py", "paths.JOURNAL, json.dumps(data, indent=1) + '\\n'"): "ours",
    ("_kubernetes/static_pods.py", "path, text"): "into a mount of ours",
    ("_containerd/blobs.py", "adopter.RECORD, json.dumps(record, sort_keys=True), 384"): "ours",
    ("_containerd/adopter.py", "RECORD, json.dumps(record, sort_keys=True), 384"): "ours",
    (
        "_containerd/adopter.py",
        "JOURNAL, json.dumps({'chains': sorted(set(before) | set(fresh))})",
    ): "ours",
    ("_host/host.py", "self.path(path), text, mode"): "only hands on",
}


def test_modules_keep_files_of_the_owner_before_they_write_them():
    found = set()
    for path in ON_NODES:
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.Call) and getattr(item.func, "attr", "") == "write_text":
                place = str(path.relative_to(ROOT / "plugins/module_utils"))
                found.add((place, ", ".join(map(ast.unparse, item.args))))
    assert found == set(WRITES)


def test_packages_are_installed_in_one_place():
    """It asks apt and dnf first what they would do to the others."""
    found = {
        name(path)
        for path in TASK_FILES
        for task in tasks(load(path))
        for module in ("package", "apt", "dnf", "yum", "command")
        if (options := task.get("ansible.builtin." + module)) is not None
        and isinstance(options, dict)
        and "name" in options
        and options.get("state", "present") != "absent"
    }
    assert found == {"roles/_common/tasks/install_packages.yml"}
    install = [key for task in tasks(load(ROOT / found.pop())) for key in task if "." in key]
    assert install.index("ansible.builtin.import_tasks") < len(install) - 1
    assert install[-1] == "ansible.builtin.package"


@pytest.mark.parametrize("path", sorted((ROOT / "roles").glob("*/templates/*.j2")), ids=name)
def test_templates_say_who_manages_the_file(path):
    text = re.sub(r"(?s)\{[#%].*?[#%]\}", "", path.read_text(encoding="utf-8"))
    head = "\n".join(text.strip().splitlines()[:3])
    assert re.search(r"ansible_managed|Ansible managed", head)


SPECS = {key: spec for role in ROLES for key, spec in options(role).items()}
SPECS |= load(ROOT / "meta/argument_specs.yml")["argument_specs"]["playbooks"]["options"]
BOOLEANS = sorted(key for key, spec in SPECS.items() if spec["type"] == "bool")
#: Whatever a task has under these is an expression without braces.
CONDITIONS = ("when", "that", "until", "failed_when", "changed_when", "check_mode")
#: An option of the roles, maybe with a default, and nothing else.
HANDED_ON = re.compile(r"\s*\w+(\s*\|\s*default\([^()]*\))?\s*")
TO_BOOL = re.compile(r"(\s*\|\s*default\([^()]*\))?\s*(\|\s*bool\b|is (not )?defined)")


def test_no_image_that_runs_by_default_floats():
    """What runs is the user's choice, or a version that the tests ran."""
    named = {
        key: re.findall(r"[\w.-]+\.[\w.-]+(?::\d+)?/[\w./-]+[^\s'\"{}]*", str(spec["default"]))
        for key, spec in SPECS.items()
        if re.search(r"_image$", key) and "default" in spec
    }
    assert named["verify_base_image"] and named["build_job_image"]
    for key, images in named.items():
        for image in images:
            assert re.search(r":v?\d[\w.-]*$|@sha256:", image), (key, image)
    version = "v" + load(ROOT / "roles/buildkit/defaults/main.yml")["buildkit_version"]
    for key in ("build_job_image", "cluster_builder_image"):
        assert named[key] == ["docker.io/moby/buildkit:" + version]


def values(value: t.Any, keys: tuple[str, ...] = ()) -> t.Iterator[tuple[tuple[str, ...], t.Any]]:
    """Every leaf of a file, with the keys above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from values(inner, (*keys, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from values(inner, keys)
    else:
        yield keys, value


def takes_a_boolean(keys: tuple[str, ...]) -> bool:
    """Whether a value under these keys is converted: a boolean option or a parameter."""
    if SPECS.get(keys[-1], {}).get("type") == "bool":
        return True
    module = keys[-2] if len(keys) > 1 else ""
    if module.startswith("homelab.containerd."):
        text = (ROOT / "plugins/modules" / (module.split(".")[-1] + ".py")).read_text()
        documented = yaml.safe_load(text.split('DOCUMENTATION = r"""')[1].split('"""')[0])
        return documented["options"].get(keys[-1], {}).get("type") == "bool"
    return module.startswith("ansible.builtin.") and module != "ansible.builtin.set_fact"


def misread(keys: tuple[str, ...], text: str) -> list[str]:
    """The boolean options in a value that would be read as a string when they come from -e."""
    if keys and keys[-1] in CONDITIONS:
        expressions = [text]
    else:
        expressions = re.findall(r"(?s)\{[{%](.*?)[%}]\}", text)
    found = []
    for expression in expressions:
        code = re.sub(r"'[^']*'|\"[^\"]*\"", "''", expression)
        whole = HANDED_ON.fullmatch(code) and text.strip() == "{{%s}}" % expression
        for word in re.finditer(r"(?<![\w.])\w+\b", code):
            if word[0] not in BOOLEANS or TO_BOOL.match(code, word.end()):
                continue
            if not (keys and whole and takes_a_boolean(keys)):
                found.append(word[0])
    return found


JINJA = sorted(
    path
    for pattern in ("roles/*/*/*.yml", "roles/*/templates/*.j2", "playbooks/*.yml")
    for path in ROOT.glob(pattern)
    if path.parent.name != "meta"
)


@pytest.mark.parametrize("path", JINJA, ids=name)
def test_boolean_options_are_read_as_booleans(path):
    """`-e buildkit_tls=false` is the string "false", which Jinja takes for true."""
    leaves: list[tuple[tuple[str, ...], t.Any]]
    if path.suffix == ".j2":
        leaves = [((), path.read_text(encoding="utf-8"))]
    else:
        leaves = list(values(load(path)))
    wrong = [
        (" > ".join(keys), word) for keys, value in leaves for word in misread(keys, str(value))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("keys", "text", "wrong"),
    [
        (("when",), "verify_buildkit", True),
        (("when",), "not verify_buildkit or x", True),
        (("when",), "verify_buildkit | bool and x == 'verify_buildkit'", False),
        (("when",), "migrate_verify | default(true) | bool", False),
        (("when",), "migrate_verify | default(true)", True),
        (("x",), "{{ verify_buildkit | ternary('yes', 'no') }}", True),
        (("x",), "verify_buildkit is {{ verify_buildkit | bool }}", False),
        (("ansible.builtin.set_fact", "x"), "{{ verify_buildkit }}", True),
        (("ansible.builtin.file", "force"), "{{ verify_buildkit }}", False),
        (("homelab.containerd.switch_runtime", "rollback"), "{{ verify_buildkit }}", False),
        (("homelab.containerd.switch_runtime", "to"), "{{ verify_buildkit }}", True),
        (("vars", "assess_drain"), "{{ verify_buildkit | default(true) }}", False),
        ((), "{% if verify_buildkit %}", True),
    ],
)
def test_the_rule_for_booleans_finds_what_is_wrong(keys, text, wrong):
    assert bool(misread(keys, text)) == wrong


@pytest.mark.parametrize("role", [role for role in ROLES if role.name[0] != "_"], ids=name)
def test_every_role_checks_its_options_first(role):
    """It refuses a string for a list, which test_options.py tries with every list."""
    first = load(role / "tasks/main.yml")[0]
    assert first["homelab.containerd.check_options"] == {"roles": [role.name]}
    assert "when" not in first


def test_the_facts_that_roles_set_are_known():
    """check_options would take the others for misspelt options."""
    made = set()
    for path in TASK_FILES:
        for task in tasks(load(path)):
            made |= {task.get("register", "__"), *(task.get("ansible.builtin.set_fact") or {})}
    assert {key for key in made if not key.startswith("__")} - set(SPECS) == FACTS


def test_the_action_group_has_every_module():
    modules = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
    assert load(ROOT / "meta/runtime.yml")["action_groups"]["all"] == modules
