"""Predicts the cycles of a plan on a card from the listings of the card's compiler, without the card.

The time of a step, in cycles of a SIMD (AMD) or of a partition of an SM (NVIDIA), is the larger of

    latency x max(1, waves / (units x waves in flight))    latency bound: waves wait for loads and for a free slot
    busy x max(1, waves / units)                           throughput bound: enough waves hide the latency

`latency` is the time of a single wave through the compiler's listing, in order: an instruction waits for its
operands as the listing says, and loops count with their real trip counts, which no compiler knows. `busy` is the
cycles of the pipe that the wave uses most: arithmetic, memory or workgroup memory. Waves in flight are the occupancy
that registers and workgroup memory allow, from the driver's statistics. Branches outside loops are not taken, launches
are free, all loads have the same latency, and uncoalesced loads cost nothing extra: the model compares plans for one
card, it does not predict milliseconds.
"""
import dataclasses, math, re, struct

# Latencies in cycles. AMD: ACO's model of RDNA has 320 for a load, 20 or more for workgroup memory, 30 for a scalar
# load. NVIDIA: published microbenchmarks of Ada find about 260 to L2, 30 to shared memory and to L1.
GLOBAL, SHARED, SCALAR = 320, 30, 30


@dataclasses.dataclass(frozen=True)
class Units:
    """The execution units of a card."""
    count: int  # SIMDs, or partitions of SMs
    lanes: int  # per wave
    per_statistic: int  # units to which the driver's number of waves refers


UNITS = {
    "navi31": Units(count=192, lanes=64, per_statistic=1),  # 96 CUs of two SIMDs
    "ad102": Units(count=512, lanes=32, per_statistic=4),  # an RTX 4090's 128 SMs of four partitions
}


@dataclasses.dataclass
class Instruction:
    name: str
    writes: tuple = ()
    reads: tuple = ()
    pipe: str = "alu"
    cycles: float = 1  # how long it occupies its pipe
    latency: float = 1
    fmas: float = 0
    waits: tuple = ()  # pairs of a counter and the number that may stay pending (AMD), or scoreboards (NVIDIA)
    counter: str = ""  # the counter or scoreboard that it increments


@dataclasses.dataclass
class Part:
    """Instructions and loops, which are parts too, in the listing's order."""
    items: list
    trips: float = 1.0  # the trip count of a loop
    product: bool = False  # True if the loop multiplies inputs by weights


# ---- AMD: ACO's assembly -----------------------------------------------------------------------------------------

# RDNA3 issues these instructions of a wave64 to both halves of a SIMD in one cycle.
DUAL = re.compile(r"v_(fma|fmac|fmaak|fmamk|mul|add|sub|subrev|max|min)_f32|v_mov_b32|v_cndmask_b32|v_dual_")
AMD_LINE = re.compile(r"^\t(\S+)\s*(.*?)\s*;")
REGISTER = re.compile(r"\b([vs])(?:\[(\d+):(\d+)\]|(\d+))|\b(vcc|exec|scc)\b")


def registers(text):
    found = []
    for kind, first, last, one, special in REGISTER.findall(text):
        if special:
            found.append(special)
        else:
            low, high = (int(first), int(last)) if first else (int(one), int(one))
            found += [f"{kind}{at}" for at in range(low, high + 1)]
    return found


def amd_instruction(name, operands, lanes):
    width = re.search(r"_b(\d+)|_(?:u|i)?(\d+)", name)
    first, _, rest = operands.partition(",")
    store = "store" in name or name.startswith("ds_write")
    writes, reads = ((), registers(operands)) if store else (registers(first), registers(rest))
    if name.startswith(("buffer_", "global_")):
        bits = int(re.search(r"b(\d+)", name).group(1)) if re.search(r"b(\d+)", name) else 32
        # Half of a CU's 128 bytes per cycle.
        return Instruction(name, tuple(writes), tuple(reads), "memory", lanes * bits / 8 / 64, GLOBAL,
                           counter="vs" if store else "vm")
    if name.startswith("ds_"):
        bits = int(width.group(1)) if width and width.group(1) else 32
        return Instruction(name, tuple(writes), tuple(reads), "shared", lanes * bits / 8 / 64, SHARED, counter="lgkm")
    if name.startswith(("s_load", "s_buffer_load")):
        return Instruction(name, tuple(writes), tuple(reads), "scalar", 1, SCALAR, counter="lgkm")
    if name in ("s_waitcnt", "s_waitcnt_vscnt", "s_waitcnt_lgkmcnt", "s_waitcnt_vmcnt"):
        waits = [(counter, int(count)) for counter, count in re.findall(r"(vm|lgkm|vs|exp)cnt\((\d+)\)", operands)]
        return Instruction(name, pipe="none", cycles=0, latency=0, waits=tuple(waits))
    if name in ("s_delay_alu", "s_clause", "s_nop", "s_waitcnt_depctr", "s_set_inst_prefetch_distance"):
        return Instruction(name, pipe="none", cycles=0, latency=0)
    if name.startswith("v_"):
        slow = re.match(r"v_(rcp|rsq|exp|log|sqrt|sin|cos)", name)
        wide = re.match(r"v_mul_(lo|hi)_|v_mad_u64", name)
        passes = lanes / 32 if not DUAL.match(name) else lanes / 64
        cycles = passes * (4 if slow or wide else 1)
        fmas = len(re.findall(r"v_(?:dual_)?(?:fma|fmac|fmaak|fmamk|pk_fma|fma_mix\w*|dot2\w*)_f(?:32|16)", name))
        fmas += name.startswith("v_dot4_")
        writes = writes if not name.startswith("v_cmp") else ["vcc"]
        if "vcc" in registers(rest) or name.startswith("v_cndmask"):
            reads = [*reads, "vcc"]
        if "fmac" in name:
            reads = [*reads, *writes]
        return Instruction(name, tuple(writes), tuple(reads), "alu", max(cycles, 1), 10 if slow else 5, fmas)
    return Instruction(name, tuple(writes), tuple(reads), "scalar", 1, 2)


def amd_listing(text, lanes):
    """Basic blocks: their instructions, and the indices of the blocks that may follow."""
    blocks, labels = [([], [])], {}
    for line in text.splitlines():
        label = re.match(r"^(BB\d+):", line)
        matched = AMD_LINE.match(line)
        if label:
            if blocks[-1][0] or len(blocks) > 1 or labels:
                blocks.append(([], []))
            labels[label.group(1)] = len(blocks) - 1
        elif matched:
            name, operands = matched.groups()
            blocks[-1][0].append(amd_instruction(name, operands, lanes))
            if name.startswith(("s_cbranch", "s_branch")):
                blocks[-1][1].append(operands.split()[-1])
                # A new block starts after a branch.
                blocks.append(([], []))
    found = []
    for at, (instructions, targets) in enumerate(blocks):
        jumps = bool(instructions) and instructions[-1].name in ("s_branch", "s_endpgm", "s_setpc_b64")
        after = [labels[target] for target in targets] + ([at + 1] if not jumps and at + 1 < len(blocks) else [])
        found.append((instructions, after))
    return found


# ---- NVIDIA: NAK's assembly ----------------------------------------------------------------------------------------

def nak_instruction(name, operands, notes):
    delay = int(re.search(r"delay=(\d+)", notes).group(1))
    waits = re.search(r"wt=(\d+)", notes)
    waits = tuple(("sb", at) for at, bit in enumerate(reversed(waits.group(1))) if bit == "1") if waits else ()
    written = re.search(r"wr:(\d)", notes)
    read = re.search(r"rd:(\d)", notes)
    pipe, cycles, latency, fmas = "alu", 1, 20, 0
    bits = re.search(r"\.b(\d+)", name)
    bits = int(bits.group(1)) if bits else 32
    if name.startswith(("ld.", "ldg", "st.", "stg", "red", "atom")) and "shared" not in name:
        pipe, cycles, latency = "memory", 32 * bits / 8 / 32, GLOBAL
    elif name.startswith(("lds", "sts", "ld.shared", "st.shared")) or "shared" in name:
        pipe, cycles, latency = "shared", 32 * bits / 8 / 32, SHARED
    elif name.startswith(("ldc", "uldc")):
        pipe, latency = "scalar", SCALAR
    elif name.startswith("mufu"):
        cycles = 2
    elif name.startswith(("ffma", "hfma2")):
        fmas = 1
    elif name.startswith("idp4"):
        cycles, fmas = 2, 1
    counters = [(int(found.group(1)), late) for found, late in ((written, latency), (read, min(latency, 20))) if found]
    return Instruction(name, pipe=pipe, cycles=cycles, latency=delay, fmas=fmas, waits=waits, counter=counters)


def nak_listing(text, _lanes):
    found = []
    bodies = re.split(r"(?m)^block(?:\.u)? (\d+) ", text)
    for number, body in zip(bodies[1::2], bodies[2::2]):
        assert int(number) == len(found)
        instructions = []
        for line in body.splitlines()[1:]:
            code, noted, notes = line.partition("//")
            if not noted or "delay=" not in notes:
                continue
            code = re.sub(r"^\s*@\S+", "", code)
            _, assigned, right = code.partition(" = ")
            name, _, operands = (right if assigned else code).strip().partition(" ")
            instructions.append(nak_instruction(name, operands, notes))
        after = re.search(r"(?m)^} -> \[([\d, ]*)\]", body)
        found.append((instructions, [int(s) for s in after.group(1).split(",") if s.strip()] if after else []))
    return found


# ---- both ---------------------------------------------------------------------------------------------------------

LISTINGS = {"navi31": ("Assembly", amd_listing), "ad102": ("NAK_assembly", nak_listing)}


def nest(blocks):
    """Nests basic blocks into parts: in the order of execution, with the blocks of a loop together."""
    order, state, backs = [], {}, []
    stack = [(0, iter(blocks[0][1]))]
    state[0] = "open"
    while stack:
        at, after = stack[-1]
        following = next(after, None)
        if following is None:
            state[at] = "done"
            order.append(at)
            stack.pop()
        elif following not in state:
            state[following] = "open"
            stack.append((following, iter(blocks[following][1])))
        elif state[following] == "open":
            backs.append((at, following))
    order.reverse()
    predecessors = {at: [] for at in range(len(blocks))}
    for at in order:
        for following in blocks[at][1]:
            predecessors[following].append(at)
    # The natural loop of each header: the blocks that reach a back edge without passing the header.
    loops = {}
    for latch, header in backs:
        body, left = loops.setdefault(header, {header}), [latch]
        while left:
            at = left.pop()
            if at not in body:
                body.add(at)
                left += predecessors[at]

    def part(members, header):
        items, taken = [], set()
        for at in members:
            if at in taken:
                continue
            if at in loops and at != header:
                inside = [other for other in members if other in loops[at]]
                taken.update(inside)
                items.append(part(inside, at))
            else:
                items += blocks[at][0]
        return Part(items)
    return part(order, None)


def inner(part):
    """The loops directly in a part."""
    return [item for item in part.items if isinstance(item, Part)]


class Wave:
    """Simulates the in-order execution of a single wave."""

    def __init__(self):
        self.now, self.ready, self.counters, self.busy = 0.0, {}, {}, {}
        # Cycles in the innermost product loops, and these cycles times the loops' fraction of multiply-adds.
        self.products = self.shares = 0.0

    def run(self, items, nvidia, times):
        for item in items:
            if isinstance(item, Part):
                self.loop(item, nvidia, times)
            else:
                self.step(item, nvidia, times)

    def step(self, item, nvidia, times):
        if nvidia:
            for _, scoreboard in item.waits:
                self.now = max(self.now, self.counters.get(scoreboard, 0.0))
            for scoreboard, late in item.counter:
                self.counters[scoreboard] = max(self.counters.get(scoreboard, 0.0), self.now + late)
            # A memory instruction occupies its pipe, so the next one waits.
            self.now = max(self.now, self.ready.get(item.pipe, 0.0)) if item.cycles > 1 else self.now
            self.ready[item.pipe] = self.now + item.cycles
            self.now += item.latency
        else:
            for counter, left in item.waits:
                flying = self.counters.setdefault(counter, [])
                done = flying[:len(flying) - left] if left else flying
                self.now = max([self.now, *done])
                self.counters[counter] = flying[len(done):]
            for register in item.reads:
                self.now = max(self.now, self.ready.get(register, 0.0))
            start = self.now
            if item.cycles > 1 and item.pipe in ("memory", "shared"):
                start = max(self.now, self.ready.get(item.pipe, 0.0))
                self.ready[item.pipe] = start + item.cycles
            if item.counter:
                self.counters.setdefault(item.counter, []).append(start + item.cycles + item.latency)
            for register in item.writes if not item.counter else ():
                self.ready[register] = self.now + item.latency
            self.now += item.cycles if item.pipe == "alu" else min(item.cycles, 1)
        if item.pipe != "none":
            self.busy[item.pipe] = self.busy.get(item.pipe, 0.0) + times * item.cycles
            self.busy["issue"] = self.busy.get("issue", 0.0) + times

    def loop(self, part, nvidia, times):
        """Simulates two iterations; the others take as long as the second."""
        trips = part.trips
        before = start = self.now
        self.run(part.items, nvidia, times * min(trips, 1))
        first = self.now - before
        if trips > 1:
            before = self.now
            self.run(part.items, nvidia, times * (trips - 1))
            self.now += (trips - 2) * (self.now - before)
        elif trips < 1:
            self.now -= (1 - trips) * first
        if part.product and not inner(part):
            real = [item for item in part.items if item.pipe != "none"]
            share = sum(item.fmas for item in real) / sum(max(item.fmas, 1) for item in real)
            self.products += self.now - start
            self.shares += (self.now - start) * share


def own_fmas(loop):
    """Multiply-adds per iteration of a loop, without its inner loops."""
    return int(sum(item.fmas for item in loop.items if isinstance(item, Instruction)))


def threads(spirv):
    """Invocations per workgroup, from SPIR-V's OpExecutionMode LocalSize."""
    words = struct.unpack(f"<{len(spirv) // 4}I", spirv)
    at = 5
    while at < len(words):
        count, opcode = words[at] >> 16, words[at] & 0xFFFF
        if opcode == 16 and words[at + 2] == 17:
            return math.prod(words[at + 3:at + 6])
        at += count
    raise ValueError("no LocalSize")


class Unknown(Exception):
    """A loop whose trip count no rule below gives."""


def product(sizes, fmas, sums, inputs, fewest=None):
    """The trip count of a product loop. One loop takes `DEPTH` inputs per iteration, up to the `fewest` that all
    invocations have; a second loop takes the remaining inputs one by one."""
    depth = sizes.get("DEPTH", 1)
    together = (inputs if fewest is None or depth == 1 else fewest) // depth
    if fmas == 16 * sums * depth:
        return together
    if depth > 1 and fmas == 16 * sums:
        return inputs - together * depth
    raise Unknown(f"{fmas} multiply-adds, with {sums} accumulators and {depth} inputs per iteration")


def trip_count(shader, s, loop, above):
    """The trip count of a loop. Compilers unroll some of a kernel's loops, so a loop is identified by its number of
    multiply-adds. `s` holds constants and parameters, `above` is the number of enclosing loops."""
    fmas, within = own_fmas(loop), inner(loop)
    if shader in ("pointwise", "pointwise_subgroup"):
        return product(s, fmas, s["PIXELS"] * s["QUADS"], s["inputs"])
    if shader == "pointwise_split":
        fewest, share = s["inputs"] // s["WORKGROUP_I"], math.ceil(s["inputs"] / s["WORKGROUP_I"])
        return product(s, fmas, s["PIXELS"], share, fewest) if fmas else s["WORKGROUP_I"]
    if shader == "pointwise_pool":
        if within:
            return math.ceil(s["picture_pixels"] / (s["WORKGROUP_P"] * s["PIXELS"]))
        return product(s, fmas, s["PIXELS"], s["inputs"]) if fmas else s["WORKGROUP_P"] - 1
    if shader == "staged":
        if fmas == 16 * s["PIXELS"] * s["QUADS"] * s["TILE_K"] or within:
            return math.ceil(s["KERNEL"] ** 2 * s["inputs"] / (s["SPLIT"] * s["TILE_K"]))
        if fmas:
            return s["TILE_K"] * 16 * s["PIXELS"] * s["QUADS"] / fmas
        return s["SPLIT"].bit_length() - 1
    if shader == "dense":
        if within:
            return s["KERNEL"]
        return math.ceil(s["inputs"] / s["SPLIT"]) if fmas else s["SPLIT"] - 1
    if shader == "product_int8":
        if within:
            return s["KERNEL"]
        return math.ceil(s["iterations"] / s["SPLIT"]) if fmas else s["SPLIT"] - 1
    if shader == "gate":
        # The sums over tiles and both products take DEPTH steps per iteration.
        return math.ceil((s["CHANNELS"] / s["SPLITS"] if fmas else s["tiles"] / s["SPREAD"]) / s["DEPTH"])
    if shader == "reduce":
        return s["SPLITS"]
    if shader in ("pool", "pool_int8"):
        return math.ceil(s["picture_pixels"] / s["WORKGROUP_P"] / s["DEPTH"])
    if shader == "argmax":
        return math.ceil(s["channels"] / 4)
    if shader == "block":
        return of_block(s, loop, above)
    if shader == "block_int8":
        return of_block_int8(s, loop, above)
    raise Unknown(f"{fmas} multiply-adds")


def all_fmas(loop):
    """Multiply-adds of one iteration of a loop and of its inner loops."""
    return own_fmas(loop) + sum(all_fmas(within) for within in inner(loop))


def of_block(s, loop, above):
    """The trip count of a loop of the block kernel: over chunks, then over slices of weights and their inputs, and
    over the items of the depthwise part."""
    fmas, tile, lanes = all_fmas(loop), s["TILE_H"] * s["TILE_W"], s["WORKGROUP_O"] * s["WORKGROUP_P"]
    region = math.prod((s[side] - 1) * s["STRIDE"] + (s["KERNEL"] - 1) * s["DILATION"] + 1
                       for side in ("TILE_H", "TILE_W"))
    items = math.ceil(math.ceil(region / 4) * s["CHUNK"] / lanes)
    if above == 0:
        return s["share"] if fmas else math.ceil(region * s["INPUTS"] / lanes)
    if fmas == 4 * s["KERNEL"] ** 2 * s["RUN"]:
        return math.ceil(tile / s["RUN"] * s["CHUNK"] / lanes)
    slices = math.ceil(s["INPUTS"] / s["EXPAND_SLICE"])
    expanded, projected = 64 * items, 16 * s["QUADS"] * s["SUMS"]
    if s["EXPAND"] and fmas in (expanded * s["EXPAND_SLICE"], expanded) and (above == 1 or inner(loop)):
        return slices if inner(loop) or fmas > expanded or s["EXPAND_SLICE"] == 1 else s["EXPAND_SLICE"]
    if s["EXPAND"] and fmas == expanded:
        return s["EXPAND_SLICE"]
    if s["PROJECT"] and fmas and fmas % projected == 0:
        whole = s["PROJECT_SLICE"] * projected
        return s["CHUNK"] / s["PROJECT_SLICE"] if fmas == whole or inner(loop) else whole / fmas
    if fmas:
        raise Unknown(f"{fmas} multiply-adds, {above} loops above")
    return tile if s["POOL"] else 1


def all_dots(loop):
    """Packed dot products of one iteration of a loop and of its inner loops."""
    own = sum(isinstance(item, Instruction) and ("dot4" in item.name or item.name.startswith("idp4"))
              for item in loop.items)
    return own + sum(all_dots(within) for within in inner(loop))


def of_block_int8(s, loop, above):
    """The same of the int8 block kernel, with packed dot products: over chunks, over the items of the expansion and of
    the depthwise part, over the expansion's inputs, and over the chunk's channels in the projection."""
    dots, tile, lanes = all_dots(loop), s["TILE_H"] * s["TILE_W"], s["WORKGROUP_O"] * s["WORKGROUP_P"]
    region = math.prod((s[side] - 1) * s["STRIDE"] + (s["KERNEL"] - 1) * s["DILATION"] + 1
                       for side in ("TILE_H", "TILE_W"))
    expanded, projected = 16 * s["INPUTS"], 4 * s["QUADS"] * s["SUMS"]
    if above == 0:
        return s["share"] if all_fmas(loop) else math.ceil(math.ceil(region * s["INPUTS"] / lanes) / 8)
    if above == 1 and dots:
        items = math.ceil(math.ceil(region / 4) * s["CHUNK"] / lanes)
        expands = s["EXPAND"] and (inner(loop) or dots % expanded == 0)
        projects = s["PROJECT"] and not inner(loop) and dots % projected == 0
        if expands and not projects:
            return items if inner(loop) else math.ceil(items * expanded / dots)
        if projects and not expands:
            return s["CHUNK"] * projected / dots
        raise Unknown(f"{dots} dot products, in one of two phases")
    if above == 1:
        return math.ceil(tile / s["RUN"] * s["CHUNK"] / lanes) if all_fmas(loop) else 1
    if dots:
        return expanded / dots
    return s["KERNEL"] if all_fmas(loop) else 1


PRODUCTS = {"pointwise", "staged", "pointwise_split", "pointwise_subgroup", "pointwise_pool", "block", "dense",
            "product_int8", "block_int8"}


def label(shader, sizes, part, above=0):
    """Sets the trip counts of all loops."""
    for loop in inner(part):
        loop.trips = trip_count(shader, sizes, loop, above)
        # The chunk loop of a block does more than a product, and its depthwise loop is no product.
        window = 4 * sizes.get("KERNEL", 0) ** 2 * sizes.get("RUN", 0)
        loop.product = shader in PRODUCTS and (not shader.startswith("block") or above > 0 and own_fmas(loop) != window)
        label(shader, sizes, loop, above + 1)


@dataclasses.dataclass
class StepEstimate:
    """The predicted time of a step."""
    cycles: float
    latency: float
    busy: float
    pipe: str  # the busiest pipe
    waves: float
    room: float  # waves in flight on all units
    loads: float  # bytes moved between buffers and registers, by loads and stores
    products: float  # cycles of a wave in the innermost product loops
    share: float  # fraction of multiply-adds among the instructions of these loops


def step(card, shader, sizes, listing, waves_per_unit, lanes, groups, invocations):
    """Predicts a step of `groups` workgroups of `invocations` invocations each."""
    units = UNITS[card]
    nvidia = LISTINGS[card][0].startswith("NAK")
    part = nest(LISTINGS[card][1](listing, lanes))
    label(shader, sizes, part)
    wave = Wave()
    wave.run(part.items, nvidia, 1.0)
    pipe = max(wave.busy, key=wave.busy.get)
    waves = groups * math.ceil(invocations / lanes)
    room = units.count * waves_per_unit / units.per_statistic
    cycles = max(wave.now * max(1.0, waves / room), wave.busy[pipe] * max(1.0, waves / units.count))
    loads = waves * wave.busy.get("memory", 0.0) * (64 if not nvidia else 32)
    share = wave.shares / wave.products if wave.products else 0.0
    return StepEstimate(cycles, wave.now, wave.busy[pipe], pipe, waves, room, loads, wave.products, share)
