"""A server and two sites on hosts of their own: real units, real firewalls, a cable that is cut.

Each host is a set of namespaces with its own systemd, which runs the very units of `deploy/systemd`
in their sandboxes; the firewalls are those of `deploy/nftables`.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from host_files import PREPARE_SERVER, PREPARE_SITE, SERVER, HostFiles, write_host_files
from hosts import Host, Network, open_network, require_hosts
from real_federation import until

pytestmark = pytest.mark.system

SITES = ("cleveland", "hungarian")
ROUNDS = 6
LONG = 240.0
PUBLIC, GATEWAY, METRICS = 9443, 9444, 9464
VAULT, LINK = "sordino-site-vault.service", "sordino-site-link.service"
DAEMON = "sordino-server.service"
AUDIT, TIMER = "sordino-audit.service", "sordino-audit.timer"
FIREWALLS = Path(__file__).parents[2] / "deploy" / "nftables"

# Which of `host:port …` take a connection, asked all at once: a firewall drops and says nothing.
REACHED = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def reached(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError:
        return False
    return True
with ThreadPoolExecutor() as pool:
    answers = list(pool.map(reached, sys.argv[1:]))
print(*(place for place, is_so in zip(sys.argv[1:], answers) if is_so))
"""

# What a site's own link is told at `host`, one status a path.
ASKED = """
import http.client, ssl, sys
keys = "/etc/sordino/link"
context = ssl.create_default_context(cafile=f"{keys}/ca.crt")
context.load_cert_chain(f"{keys}/cleveland.crt", f"{keys}/cleveland.key")
for path in sys.argv[2:]:
    connection = http.client.HTTPSConnection(sys.argv[1], 9443, context=context, timeout=30)
    connection.request("POST", path, body=b"")
    print(connection.getresponse().status)
"""

# Which of the files can be opened: r:path to read, w:path to write.
OPENED = """
import sys
for each in sys.argv[1:]:
    mode, _, path = each.partition(":")
    try:
        open(path, "rb" if mode == "r" else "r+b").close()
    except OSError:
        continue
    print(each)
"""

# A run's events as they come, one a line.
WATCHED = """
import json, sys
from pathlib import Path
from sordino.connection import Connection
from sordino.profile import load_profile
with Connection(load_profile(Path("/etc/sordino/profile.toml"))) as connection:
    for event in connection.watch(sys.argv[1]):
        print(json.dumps(event), flush=True)
"""

# What the server tells of audits.
AUDITS = """
import urllib.request as web
text = web.urlopen("http://127.0.0.1:9464/metrics", timeout=9).read().decode()
print(*(line for line in text.splitlines() if line.startswith("sordino_audit_")), sep="\\n")
"""

STEPS = """
import json, sys
from pathlib import Path
from sordino_client.ledger import read_entries
entries = read_entries(Path("/var/lib/sordino/site/ledger.db"))
print(json.dumps([str(each["step"]) for each in entries if each["kind"] == "reserve"]))
"""


@dataclass(frozen=True, slots=True)
class Hosts:
    """All machines of the federation."""

    network: Network
    server: Host
    sites: dict[str, Host]
    person: Host

    def job(self, *arguments: str) -> str:
        """Run a command of the data scientist's."""
        profile = ("--profile", "/etc/sordino/profile.toml")
        result = self.person.sordino("job", *arguments, *profile)
        assert result.status == 0, result.errors + self.log()
        return result.output

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for something that another process does; what was said meanwhile if it does not."""
        try:
            until(condition, LONG)
        except AssertionError as error:
            raise AssertionError(f"{error}{self.log()}") from None

    def log(self) -> str:
        """The end of what every service wrote."""
        return "".join(each.log() for each in (self.server, *self.sites.values()))


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Started, behind firewalls, with every site connected."""
    require_hosts()
    files = write_host_files(tmp_path / "files", SITES, rounds=ROUNDS)
    with open_network(tmp_path) as network:
        made = _boot(network, files)
        made.server.systemctl("start", "--no-block", DAEMON)
        for site in made.sites.values():
            site.systemctl("start", "--no-block", VAULT, LINK)
        made.wait(lambda: all(_is_ready(site) for site in made.sites.values()))
        yield made


def _boot(network: Network, files: HostFiles) -> Hosts:
    server = network.boot("server", files.server, prepare=PREPARE_SERVER)
    assert server.address == SERVER
    sites = {
        name: network.boot(name, tree, prepare=PREPARE_SITE) for name, tree in files.sites.items()
    }
    person = network.boot("person", files.person)
    addresses = ", ".join(each.address for each in sites.values())
    _protect(server, "server.nft", {"sites": f"{{ {addresses} }}", "people": person.address})
    for site in sites.values():
        _protect(site, "site.nft", {"server": SERVER})
    return Hosts(network, server, sites, person)


def _protect(host: Host, firewall: str, defined: dict[str, str]) -> None:
    """Load an example of a firewall, with the addresses of this network."""
    lines = (FIREWALLS / firewall).read_text().splitlines()
    for name, value in defined.items():
        (index,) = [at for at, line in enumerate(lines) if line.startswith(f"define {name} =")]
        lines[index] = f"define {name} = {value}"
    (host.root / "etc" / firewall).write_text("\n".join(lines) + "\n")
    result = host.run("nft", "-f", f"/etc/{firewall}")
    assert result.status == 0, result.errors


def _is_ready(site: Host) -> bool:
    script = "import urllib.request as web; web.urlopen('http://127.0.0.1:9465/readyz', timeout=9)"
    return site.python(script).status == 0


def test_a_run_on_three_hosts_outlives_a_cut_cable_and_a_killed_vault(hosts: Hosts) -> None:
    _check_who_reaches_what(hosts)
    _check_sandboxes(hosts)
    run_id = hosts.job("submit", "/etc/sordino/job.toml").strip()
    with hosts.person.reading(WATCHED, run_id) as events:
        hosts.wait(lambda: _rounds_done(events) >= 1)

        hosts.network.cut("cleveland")
        hosts.wait(lambda: _waits_for_cleveland(hosts, events))
        hosts.network.mend("cleveland")

        other = hosts.sites["hungarian"]
        vault = other.main_pid(VAULT)
        assert other.run("kill", "-KILL", str(vault)).status == 0
        hosts.wait(lambda: _states(events)[-1:] in (["done"], ["failed"]))

        assert _states(events)[-1] == "done", hosts.log()
    assert other.main_pid(VAULT) not in (0, vault)
    _check_costs(hosts, run_id)
    _check_audit(hosts, run_id)


def _waits_for_cleveland(hosts: Hosts, events: Path) -> bool:
    """Whether the other site has paid for a round that the server does not have."""
    return len(_reserved(hosts.sites["hungarian"])) > _rounds_done(events)


def _rounds_done(events: Path) -> int:
    return sum(each["event"] == "round" for each in _read(events))


def _states(events: Path) -> list[str]:
    return [str(each["state"]) for each in _read(events) if "state" in each]


def _read(events: Path) -> list[dict[str, object]]:
    whole, _, _ = events.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _reserved(site: Host) -> list[str]:
    result = site.python(STEPS, user="sordino-vault")
    assert result.status == 0, result.errors
    return list(json.loads(result.output))


def _check_who_reaches_what(hosts: Hosts) -> None:
    server, (site, other) = hosts.server, hosts.sites.values()
    ports = json.loads((server.root / "var/lib/sordino/server/ports.json").read_text())
    at_server = [f"{SERVER}:{port}" for port in (*ports.values(), 22)]
    assert {PUBLIC, GATEWAY, METRICS} < set(ports.values())

    # A site: the public port, by its link alone, and there no path but those of sites.
    assert _reached(site, LINK, *at_server, f"{other.address}:9465") == {f"{SERVER}:{PUBLIC}"}
    as_vault = site.python(REACHED, *at_server, user="sordino-vault")
    assert as_vault.output.split() == []
    paths = ("/v1/control/list-runs", "/v1/control/start-run", "/v1/runtime/acquire-task")
    asked = site.inside(LINK, ASKED, SERVER, *paths)
    assert asked.output.split() == ["404"] * len(paths), asked

    # The vault: nothing, not even its own host.
    assert _reached(site, VAULT, *at_server, f"{other.address}:9465", "127.0.0.1:9465") == set()
    devices = site.inside(VAULT, "print(open('/proc/net/dev').read())").output
    assert [line.split(":")[0].strip() for line in devices.splitlines() if ":" in line] == ["lo"]

    # A person: the gateway. The server: it answers and never calls.
    assert hosts.person.python(REACHED, *at_server).output.split() == [f"{SERVER}:{GATEWAY}"]
    assert _reached(server, DAEMON, f"{site.address}:9465") == set()


def _reached(host: Host, unit: str, *places: str) -> set[str]:
    result = host.inside(unit, REACHED, *places)
    assert result.status == 0, result.errors
    return set(result.output.split())


def _check_sandboxes(hosts: Hosts) -> None:
    site = hosts.sites["cleveland"]
    ledger, key = "r:/var/lib/sordino/site/ledger.db", "r:/etc/sordino/keys/cleveland.key"
    node_key, policy = "r:/etc/sordino/link/cleveland.node.key", "w:/etc/sordino/policy.toml"
    records = "r:/etc/sordino/datasets.d/cleveland.csv"
    wanted = (ledger, key, records, node_key, policy)
    opened = {unit: site.inside(unit, OPENED, *wanted).output.split() for unit in (VAULT, LINK)}
    assert opened == {VAULT: [ledger, key, records], LINK: [node_key]}
    signing, state = "r:/etc/sordino/keys/server.key", "w:/var/lib/sordino/server/ports.json"
    at_server = (signing, state, "r:/etc/sordino/pki/ca.key", "w:/etc/sordino/sites/cleveland.pub")
    assert hosts.server.inside(DAEMON, OPENED, *at_server).output.split() == [signing, state]
    for host, unit in ((site, VAULT), (site, LINK), (hosts.server, DAEMON)):
        status = (host.root / f"proc/{host.main_pid(unit)}/status").read_text()
        facts = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
        assert facts["Seccomp"] == "2"
        assert facts["NoNewPrivs"] == "1"
        assert {int(facts[each], 16) for each in ("CapEff", "CapPrm", "CapBnd")} == {0}
        assert not facts["Uid"].startswith("0\t")


def _check_costs(hosts: Hosts, run_id: str) -> None:
    """Every round and the evaluation were paid for once, and alike."""
    hosts.job("fetch", run_id, "--to", "/root")
    statement = json.loads((hosts.person.root / "root" / f"{run_id}.statement.json").read_text())
    receipts = statement["receipts"]
    assert sorted(receipts) == sorted(SITES)
    assert len({each["epsilon_spent_pld"] for each in receipts.values()}) == 1
    steps = sorted([*(f"round-{number}" for number in range(1, ROUNDS + 1)), "evaluation"])
    for name, site in hosts.sites.items():
        assert receipts[name]["epsilon_spent_pld"] == receipts[name]["epsilon_planned"]
        assert len(json.loads(receipts[name]["events_json"])) == ROUNDS + 1
        assert sorted(_reserved(site)) == steps


def _check_audit(hosts: Hosts, run_id: str) -> None:
    """The timer makes up for a time that was missed, and the server tells of what came out."""
    server = hosts.server
    stamp = server.root / "var/lib/systemd/timers" / f"stamp-{TIMER}"
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    a_week_ago = time.time() - 7 * 86_400
    os.utime(stamp, (a_week_ago, a_week_ago))
    server.systemctl("start", TIMER)
    hosts.wait(lambda: f'model="{run_id}"' in server.python(AUDITS).output)
    hosts.wait(lambda: _shown(server, AUDIT, "ActiveState") in {"inactive", "failed"})
    # What so few canaries say is up to chance: nothing, or that somebody should look, and only that
    # is a failure of the unit.
    status = _shown(server, AUDIT, "ExecMainStatus")
    assert status in {"0", "10", "11"}, hosts.log()
    assert (_shown(server, AUDIT, "Result") == "success") == (status != "10")
    assert list((server.root / "var/lib/sordino/audit/reports").glob("*")), hosts.log()
    assert server.systemctl("is-active", TIMER).strip() == "active"


def _shown(host: Host, unit: str, fact: str) -> str:
    return host.systemctl("show", f"--property={fact}", "--value", unit).strip()
