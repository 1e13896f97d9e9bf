#!/usr/bin/python3
"""
The network of the demo as a Mininet topology: switches s1 (SDN domain), s2 (edge domain) and s3 (core); the terminal h1 on s1;
the server h2 and the stranger h3 on s3.

By hand, beside an ordinary Mininet:

    sudo mn --custom scripts/topology.py --topo paguro --switch paguro --controller remote,ip=127.0.0.1,port=6653

As a program it serves the test harness: one JSON object a line on standard input and output. The first line in is the network
({} for the demo's; see `Network`), the first line out {"ready": true, ...}. Then each command {"id", "do", ...} gets an answer
{"id", "ok": true, ...} or {"id", "ok": false, "error"}. The network ends with standard input.
"""

import json
import os
import signal
import subprocess
import sys
import time

from mininet.net import Mininet
from mininet.node import Host, OVSSwitch
from mininet.topo import Topo

DEMO = {
    "switches": [{"name": "s1", "dpid": 1}, {"name": "s2", "dpid": 2}, {"name": "s3", "dpid": 3}],
    "links": [["s1", "s3"], ["s2", "s3"]],
    "hosts": [
        {"name": f"h{n}", "switch": switch, "mac": f"02:00:00:00:00:{n:02x}", "ipv4": f"10.0.0.{n}/24", "ipv6": f"fd00::{n}/64"}
        for n, switch in ((1, "s1"), (2, "s3"), (3, "s3"))
    ],
}

# Packet-ins that wait in the switch: the most that Open vSwitch takes. With its default of 100, bursts are lost.
PACKET_IN_QUEUE = 512


class PaguroSwitch(OVSSwitch):
    """Open vSwitch with its userspace datapath and OpenFlow 1.3, closed while no controller is connected."""

    def __init__(self, name, **params):
        settings = {"datapath": "user", "protocols": "OpenFlow13", "failMode": "secure", **params}
        super().__init__(name, **settings)

    def bridgeOpts(self):
        return super().bridgeOpts() + f" other_config:controller-queue-size={PACKET_IN_QUEUE}"

    def delIntf(self, intf):
        """Mininet's own forgets the name only."""
        port = self.ports.pop(intf)
        del self.intfs[port]
        del self.nameToIntf[intf.name]


# A host with two links: what arrives on either goes to its stack, and what it sends leaves by the one that the chain `out` names. A chain is
# replaced at once: each frame leaves by exactly one link.
TWO_LINKS = """
table netdev links {{
  chain out {{ type filter hook ingress device "{mux}" priority 0; fwd to "{first}"; }}
  chain first {{ type filter hook ingress device "{first}" priority 0; fwd to "{mux}"; }}
  chain second {{ type filter hook ingress device "{second}" priority 0; fwd to "{mux}"; }}
}}
"""
SEND_BY = 'flush chain netdev links out; add rule netdev links out fwd to "{link}"'


class PaguroHost(Host):
    """
    A host whose IPv4 and IPv6 addresses work at once, and whose checksums are in the packets. With `also` (a switch) it has a second link, there:
    it receives on both and sends on one, the first until `send_by`.
    """

    def __init__(self, name, **params):
        super().__init__(name, **params)
        self.interface = None
        # By the name of the switch. Empty: it has its default interface only.
        self.links = {}
        self.sends_by = None
        # No duplicate address detection: an address is used in the moment it is set. And a host that roams keeps what it knows of its
        # neighbours, as one on Wi-Fi does: else the first ARP request meets the link that is still away, and the next comes a second later.
        self.cmd(
            "sysctl -eqw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0"
            " net.ipv4.conf.all.arp_evict_nocarrier=0 net.ipv4.conf.default.arp_evict_nocarrier=0"
            " net.ipv6.conf.all.ndisc_evict_nocarrier=0 net.ipv6.conf.default.ndisc_evict_nocarrier=0"
        )

    def config(self, ipv6=None, also=None, **params):  # pylint: disable=arguments-differ
        result = super().config(**params)
        name = self.join_links(params["mac"], params["ip"]) if also else self.defaultIntf().name
        self.interface = name
        # Veths leave checksums to hardware that isn't there; a switch in user space and captures would see wrong ones.
        self.cmd(f"ethtool -K {name} tx off")
        if ipv6:
            self.cmd(f"ip -6 addr add {ipv6} dev {name} nodad")
        return result

    def join_links(self, mac, ip):
        """The host's two links below one interface with its addresses, whose name is returned."""
        first, second = self.nameToIntf[f"{self.name}-eth0"], self.nameToIntf[f"{self.name}-eth1"]
        name, mux = f"{self.name}-net", f"{self.name}-mux"
        self.links = {self.far_end(intf).node.name: intf for intf in (first, second)}
        self.sends_by = first
        # The links themselves say nothing: a frame of their own would be the terminal's.
        for quiet in (first.name, second.name):
            self.run("sysctl", "-qw", f"net.ipv6.conf.{quiet}.disable_ipv6=1")
        self.run(
            "ip",
            "-batch",
            "-",
            text=f"addr flush dev {first.name}\n"
            f"link add {name} address {mac} type veth peer name {mux}\n"
            f"link set {mux} addrgenmode none\n"
            f"link set {mux} up\nlink set {name} up\naddr add {ip} dev {name}\n",
        )
        self.run("nft", "-f", "-", text=TWO_LINKS.format(mux=mux, first=first.name, second=second.name))
        return name

    def send_by(self, switch):
        """From now on what the host sends leaves by its link to this switch."""
        if switch not in self.links:
            raise ValueError(f"{self.name} has no link to {switch}: it has links to {', '.join(self.links) or 'one switch only'}")
        self.run("nft", "-f", "-", text=SEND_BY.format(link=self.links[switch].name))
        self.sends_by = self.links[switch]

    @staticmethod
    def far_end(intf):
        """The interface at the other end of a link."""
        return intf.link.intf2 if intf.link.intf1 is intf else intf.link.intf1

    def run(self, *argv, text=None):
        """Runs a program in the host; its output. Fails with what it said."""
        return command("nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *argv, text=text)


class PaguroTopo(Topo):
    """`mn --topo paguro`."""

    def build(self, network=None):  # pylint: disable=arguments-differ
        network = network or DEMO
        for switch in network["switches"]:
            self.addSwitch(switch["name"], dpid=f"{switch['dpid']:x}")
        for one, other in network["links"]:
            self.addLink(one, other)
        for host in network["hosts"]:
            also = host.get("also")
            self.addHost(host["name"], cls=PaguroHost, mac=host["mac"], ip=host["ipv4"], ipv6=host.get("ipv6"), also=also)
            for switch in [host["switch"], also]:
                if switch:
                    self.addLink(host["name"], switch)


topos = {"paguro": PaguroTopo}
switches = {"paguro": PaguroSwitch}


def command(*argv, text=None):
    """Runs a program; its output. Fails with what it said."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def now_ms():
    """The machine's monotonic clock: the same in every process."""
    return time.clock_gettime(time.CLOCK_MONOTONIC) * 1000


class Network:
    """
    A running network and the commands on it. Its description, all parts optional:
    {"switches": [{"name", "dpid"}], "links": [[a, b]], "hosts": [{"name", "switch", "mac", "ipv4", "ipv6", "also"}], "controllers": ["tcp:127.0.0.1:6653"]}
    """

    def __init__(self, description):
        network = {**DEMO, **description}
        self.controllers = network.get("controllers", [])
        self.bypassed = False
        # Mininet would raise limits of the whole machine (fs.file-max, kernel.pty.max).
        Mininet.inited = True
        self.net = Mininet(topo=PaguroTopo(network=network), switch=PaguroSwitch, controller=None)
        self.net.start()
        self.set_controllers()

    def set_controllers(self):
        """Each switch looks for its controllers every second at most."""
        if not self.controllers:
            return
        argv = ["ovs-vsctl"]
        for switch in self.net.switches:
            argv += ["--", "set-controller", switch.name, *self.controllers]
        command(*argv)
        found = command("ovs-vsctl", "--bare", "--columns=_uuid", "list", "Controller").split()
        argv = ["ovs-vsctl"]
        for uuid in found:
            argv += ["--", "set", "Controller", uuid, "max_backoff=1000"]
        command(*argv)

    def host(self, name):
        """A host by name, or a failure that says which there are."""
        found = [host for host in self.net.hosts if host.name == name]
        if not found:
            raise ValueError(f"no host {name}: there are {', '.join(host.name for host in self.net.hosts)}")
        return found[0]

    def switch(self, name):
        """A switch by name."""
        found = [switch for switch in self.net.switches if switch.name == name]
        if not found:
            raise ValueError(f"no switch {name}: there are {', '.join(switch.name for switch in self.net.switches)}")
        return found[0]

    @staticmethod
    def attachment(host):
        """The interface at the switch's end of a host's link, of the two the one that it sends by."""
        return host.far_end(host.sends_by or host.defaultIntf())

    def describe_host(self, host):
        """What the harness knows of a host."""
        at = self.attachment(host)
        return {
            "pid": host.pid,
            "interface": host.interface,
            "mac": host.params["mac"],
            "ipv4": host.params["ip"].split("/")[0],
            "ipv6": (host.params.get("ipv6") or "").split("/")[0],
            "switch": at.node.name,
            "port": at.name,
        }

    def describe(self):
        """Everything: hosts, switches and their ports (what is at the other end)."""
        switches = {}
        for switch in self.net.switches:
            ports = {}
            for intf in switch.intfList():
                if intf.link:
                    link = intf.link
                    ports[intf.name] = (link.intf2 if link.intf1 is intf else link.intf1).node.name
            switches[switch.name] = {"dpid": int(switch.dpid, 16), "ports": ports}
        return {"hosts": {host.name: self.describe_host(host) for host in self.net.hosts}, "switches": switches}

    def move(self, host, switch, port=None):
        """
        Moves a host's link to another switch, as Mininet's mobility example does: off the old switch, down, the new name, up, on to the
        new one. Between `downAt` and `upAt` (monotonic ms) the link was away.
        """
        node, new = self.host(host), self.switch(switch)
        intf = self.attachment(node)
        old, old_port = intf.node, intf.name
        if node.links:
            raise ValueError(f"{host} has two links, which stay where they are")
        if new is old:
            raise ValueError(f"{host} is on {switch} already")
        number = port or new.newPort()
        name = f"{new.name}-eth{number}"
        if name in new.nameToIntf:
            raise ValueError(f"{name} is in use")
        down_at = now_ms()
        command("ovs-vsctl", "del-port", old.name, intf.name)
        command("ip", "-batch", "-", text=f"link set {intf.name} down\nlink set {intf.name} name {name}\nlink set {name} up\n")
        old.delIntf(intf)
        intf.name = name
        new.addIntf(intf, port=number, moveIntfFn=lambda *_: None)
        intf.node = new
        command("ovs-vsctl", "add-port", new.name, name, "--", "set", "Interface", name, f"ofport_request={number}")
        up_at = now_ms()
        if self.bypassed:
            self.open_ports(old)
            self.open_ports(new)
        return {"host": self.describe_host(node), "from": old_port, "downAt": down_at, "upAt": up_at}

    def send(self, host, link):
        """The host sends by its link to the switch `link` from a moment between `startedAt` and `doneAt` (monotonic ms) on."""
        node = self.host(host)
        old = self.attachment(node)
        started_at = now_ms()
        node.send_by(link)
        return {"host": self.describe_host(node), "from": old.name, "startedAt": started_at, "doneAt": now_ms()}

    def add_host(self, name, switch, mac, ipv4, ipv6=None, also=None):
        """One more host, on a new port of a switch, or of two."""
        node = self.net.addHost(name, cls=PaguroHost, mac=mac, ip=ipv4, ipv6=ipv6, also=also)
        ends = [(at, self.net.addLink(node, at).intf2) for at in map(self.switch, filter(None, [switch, also]))]
        node.configDefault()
        for at, intf in ends:
            at.attach(intf)
            if self.bypassed:
                self.open_ports(at)
        return {"host": self.describe_host(node)}

    def bypass(self, on):
        """
        Takes the firewall away: no controller, every switch an ordinary one. Only frames that come from ports of this network are
        forwarded: a container whose two ends are on a switch would close a loop. Off: no rules, and the controllers again.
        """
        if on == self.bypassed:
            return {}
        self.bypassed = on
        for switch in self.net.switches:
            if on:
                command("ovs-vsctl", "--", "del-controller", switch.name, "--", "set-fail-mode", switch.name, "secure")
            command("ovs-ofctl", "-O", "OpenFlow13", "del-flows", switch.name)
            command("ovs-appctl", "fdb/flush", switch.name)
            if on:
                self.open_ports(switch)
        if not on:
            self.set_controllers()
        return {}

    @staticmethod
    def open_ports(switch):
        """Normal forwarding for frames from Mininet's ports of a switch, and from no other."""
        names = [intf.name for intf in switch.intfList() if intf.link]
        flows = "".join(f"in_port={name},actions=normal\n" for name in names)
        command("ovs-ofctl", "-O", "OpenFlow13", "replace-flows", switch.name, "-", text=flows)

    def close(self):
        """Stops everything that this network started."""
        self.net.stop()


def answer(value):
    """One line out."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def serve():
    """The harness's end."""
    # Ctrl-C reaches every process of a terminal: the harness decides when the network ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.geteuid() != 0:
        raise SystemExit("Mininet needs root: run this with sudo")
    network = Network(json.loads(sys.stdin.readline() or "{}"))
    commands = {
        "move": network.move,
        "send": network.send,
        "addHost": network.add_host,
        "bypass": network.bypass,
        "describe": network.describe,
    }
    answer({"ready": True, **network.describe()})
    try:
        for line in sys.stdin:
            request = json.loads(line)
            number, name = request.pop("id"), request.pop("do")
            if name == "stop":
                network.close()
                answer({"id": number, "ok": True})
                return
            try:
                answer({"id": number, "ok": True, **commands[name](**request)})
            except Exception as error:  # pylint: disable=broad-except
                answer({"id": number, "ok": False, "error": f"{type(error).__name__}: {error}"})
    finally:
        network.close()


if __name__ == "__main__":
    serve()
