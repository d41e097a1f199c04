#!/usr/bin/env python3
"""Breaks rules of the program, one at a time, and says how long the simulation takes to notice.

    tests/broken_rules.py                  all of them
    tests/broken_rules.py guard leaver     these
    tests/broken_rules.py --seconds 600    each for longer (120 seconds unless said)
    tests/broken_rules.py --seed 5000      beginning with another world

Works on a copy of the tree, in target/broken-rules; nothing of ours is changed. A rule whose text is not found any more is an error: say
here how it is broken now. Exits 1 if one is not noticed, or if nothing broken is.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST = "simulation::whatever_happens_what_is_promised_stays_true"

# Name: what is done, and in which files which text is replaced by which.
BREAKS = {
    "nothing": ("nothing is broken", []),
    "ledger-order": (
        "a purge's line is written after its commit",
        [
            (
                "src/warehouse/beside/ledger.rs",
                "        if let Err(error) = appended::append(&self.path, self.length, &text) {\n"
                "            return Err(StoreFailed::Ledger(unusable(&self.path, &error)));\n"
                "        }\n",
                "        LATE.with_borrow_mut(|late| late.push((self.length, text.clone())));\n",
            ),
            (
                "src/warehouse/beside/ledger.rs",
                "        self.is_ahead = false;\n        self.ahead = None;\n    }\n",
                "        self.is_ahead = false;\n        self.ahead = None;\n"
                "        for (length, text) in LATE.take() {\n"
                "            let _ = appended::append(&self.path, length, &text);\n        }\n    }\n",
            ),
            (
                "src/warehouse/beside/ledger.rs",
                "/// Those whose last line in the ledger is a purge.",
                "thread_local! { static LATE: std::cell::RefCell<Vec<(u64, String)>> = const { std::cell::RefCell::new(Vec::new()) }; }\n\n"
                "/// Those whose last line in the ledger is a purge.",
            ),
        ],
    ),
    "guard": (
        "a sweep of suspiciously much does not wait",
        [("src/plan/sweep.rs", "if is_suspicious && !facts.guard_expired", "if false && is_suspicious")],
    ),
    "completeness": (
        "every walk is complete",
        [("src/plan/completeness.rs", "    if walk.adds_up() {", "    if true {")],
    ),
    "leaver": (
        "a leaver is purged at once",
        [("src/plan/leaver.rs", "if READINGS_MIN <= missing.readings && until <= now {", "if true {")],
    ),
    "overlap": (
        "the watermark is the pull's start",
        [("src/plan/start.rs", "started_at - TimeDelta::from_std(overlap).unwrap_or_default()", "started_at - TimeDelta::from_std(overlap * 0).unwrap_or_default()")],
    ),
    "days-count": (
        "purges of the last 24 hours are not counted",
        [("src/plan/consent.rs", "self.confirmed + self.purged_lately", "self.confirmed")],
    ),
    "many": (
        "many at once are not held",
        [("src/plan/consent.rs", "u64::from(rule.hold_after) <= counted && is_large_share", "u64::MAX <= counted && is_large_share")],
    ),
    "scrub": (
        "the last bytes stay",
        [("src/warehouse/sqlite/scrub/mod.rs", "Way::Zeroing => zero_in_place(writer, stop).await?", "Way::Zeroing => InPlace::Clean { pages: 0 }")],
    ),
    "witness": (
        "no witness is wanted",
        [("src/plan/consent.rs", "if facts.witness_permitted => RefusalVerdict::Confirmed", "if true => RefusalVerdict::Confirmed")],
    ),
    "witness-after": (
        "the witness is not asked after the refused",
        [("src/cycle/round.rs", "Some(person) if any_refused => question(cycle, &person, token).await.is_ok()", "Some(_) => any_refused")],
    ),
    "second-walk": (
        "a sweep believes one walk",
        [("src/plan/sweep.rs", "    if facts.walk == 1 {", "    if facts.walk == 99 {")],
    ),
    "carrying-out": (
        "a purge that the warehouse does not know is not carried out",
        [("src/warehouse/sqlite/ledger_book.rs", "                carried_out = carry_out(&transaction, &unknown, now)?;\n                note(", "                carried_out.clear();\n                note(")],
    ),
    "refusal-noted": (
        "a refusal is not written down",
        [
            (
                "src/cycle/patient.rs",
                "    match cycle.warehouse.note_refusal(&head, cost, now).await {\n"
                "        Ok(row) => cost.row = row,\n"
                "        Err(failed) => return PatientOutcome::Ends(EndedEarly::Warehouse(failed)),\n    }\n",
                "    let _ = &mut cost;\n",
            ),
        ],
    ),
    "limiter": (
        "a limiter's 403 is a refusal",
        [("src/plan/refusal.rs", "        return ForbiddenMeans::SlowDown;", "        return ForbiddenMeans::Refused;")],
    ),
    "alone-after": (
        "without a witness nobody waits for a day",
        [("src/plan/consent.rs", "if has_lasted(facts.refused_at) =>", "if true =>")],
    ),
    "old-token": (
        "a refusal is confirmed with the token that was refused",
        [("src/healthex/client.rs", "        let before = self.tokens.current();\n        let same", "        let before = self.tokens.current();\n        if before.is_some() {\n            return Ok(before);\n        }\n        let same")],
    ),
    "pause": (
        "whom an operator has purged is pulled by the next cycle",
        [("src/plan/due.rs", "PatientState::Paused if !request.named", "PatientState::Paused if request.full && !request.named")],
    ),
    "pause-forgotten": (
        "one reading of the roster undoes an operator's purge",
        [("src/warehouse/sqlite/checkpoint.rs", "AND (state <> 'paused' OR listed_by = 'file' AND ?1", "AND (state <> '' OR ?1")],
    ),
    "record-alone": (
        "a record that HealthEx contradicts is believed at once",
        [("src/plan/consent.rs", "            if has_lasted(since) =>", "            if has_lasted(since) || true =>")],
    ),
    "record-consents": (
        "who is refused and consents by its record is purged",
        [("src/plan/consent.rs", "(Answer::Refused, RecordSays::Consented) => RefusalVerdict::Held(HeldWhy::Contradicted)", "(Answer::Refused, RecordSays::Consented) => RefusalVerdict::Confirmed")],
    ),
    "record-before": (
        "a record that was read before, and is not said anew, is believed",
        [("src/plan/consent.rs", "    let ended = RecordSays::Ended { since: None };\n    match", "    let ended = RecordSays::Ended { since: Some(seen_at) };\n    match")],
    ),
    "record-pulled": (
        "whose record says withdrawn is pulled on",
        [("src/plan/due.rs", "    if checkpoint.consent_ended_at.is_some() {", "    if checkpoint.consent_ended_at.is_some() && false {")],
    ),
    "record-opened": (
        "a consent that is given again does not break off what was said before",
        [("src/plan/records/mod.rs", "(Some(true), Some(_)) => self.update.open.push(person.clone()),", "(Some(true), Some(_)) if !self.known.contains_key(person) => self.update.open.push(person.clone()),")],
    ),
    "first-refusal": (
        "who is asked for its record alone is purged on its first refusal",
        [("src/plan/consent.rs", "if !facts.was_refused =>", "if !facts.was_refused && false =>")],
    ),
    "records-due": (
        "the records are read once, and when one has run out",
        [("src/plan/records/mod.rs", "read_at > now || every <= now - read_at ||", "read_at > now || every <= now - read_at && false ||")],
    ),
    "records-cut": (
        "an answer of the records that is cut is believed",
        [("src/healthex/consents.rs", "            reader.finish().map_err(not_records)?;", "            let _ = reader.finish().map_err(not_records);")],
    ),
    "records-shrunk": (
        "an answer of the records that has lost many is believed",
        [("src/plan/records/mod.rs", "    is_doubted.then(|| {", "    (is_doubted && false).then(|| {")],
    ),
    "scopes": (
        "a record that lets something else through brings no full pull",
        [("src/warehouse/sqlite/consents.rs", "before.cast_unsigned() != *scopes)", "before.cast_unsigned() != *scopes && false)")],
    ),
    "full-every": (
        "no full pull is made because its time has come",
        [("src/plan/due.rs", "        || overdue", "        || (overdue && false)")],
    ),
}


def copy_tree(to):
    """Copies what git knows of, and what it does not know of yet."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        ours, copied = ROOT / name, to / name
        # What is as it was is not built again.
        if ours.is_file() and not (copied.is_file() and copied.read_bytes() == ours.read_bytes()):
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ours, copied)


def build(tree, name, edits):
    """Returns the tests with a rule broken. The tree is whole again afterwards."""
    whole = {file: (tree / file).read_text() for file, _, _ in edits}
    for file, before, after in edits:
        (tree / file).write_text((tree / file).read_text().replace(before, after))
    cargo = ["cargo", "test", "--quiet", "--lib", "--no-run", "--message-format=json"]
    # Cargo tells the copy from ours by nothing: in our target folder it would take a broken build for a whole one.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(tree / "target")}
    built = subprocess.run(cargo, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for file, text in whole.items():
        (tree / file).write_text(text)
    found = re.findall(r'"executable":"([^"]+)"', built.stdout)
    if built.returncode != 0 or not found:
        sys.exit(f"{name} cannot be built:\n{built.stderr[-2000:]}")
    return Path(shutil.copy2(found[-1], tree / "target" / f"tests-with-{name}"))


def simulate(tests, seed, seconds):
    """Returns whether it was noticed, after how many days, and what was untrue."""
    prefix = "HEALTHEX_SYNC_SIMULATION_"
    wanted = {"SEED": seed, "SECONDS": seconds, "SHRINKING": 0}
    environment = {**os.environ, **{prefix + key: str(value) for key, value in wanted.items()}}
    command = [tests, "--exact", TEST, "--nocapture"]
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    shown = re.search(r"after \d+ worlds and (\d+) days:\nuntrue: (.*)\n(?:.*\n)*?made small", ran.stdout)
    if shown:
        last = [line for line in shown.group(0).splitlines() if line.startswith("day ")][-1]
        return True, int(shown.group(1)) + int(last.split()[1]) + 1, shown.group(2)
    whole = re.search(r"\d+ worlds, (\d+) days", ran.stdout)
    if ran.returncode == 0 and whole:
        return False, int(whole.group(1)), ""
    return True, 0, "it ended without a story: " + ran.stdout[-300:]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", choices=[*BREAKS, []])
    arguments.add_argument("--seconds", type=int, default=120)
    arguments.add_argument("--seed", type=int, default=3)
    arguments.add_argument("--at-once", type=int, default=1, help="so many simulations beside a build")
    asked = arguments.parse_args()
    tree = ROOT / "target" / "broken-rules"
    copy_tree(tree)
    for name in asked.names or BREAKS:
        for file, before, _ in BREAKS[name][1]:
            if (tree / file).read_text().count(before) != 1:
                sys.exit(f"{name}: not once in {file}: {before!r}")

    def run(name, tests):
        is_noticed, days, untrue = simulate(tests, asked.seed, asked.seconds)
        found = f"day {days}: {untrue}" if is_noticed else f"nothing in {days} days"
        print(f"{name:14} {BREAKS[name][0]:60} {found}", flush=True)
        tests.unlink()
        return is_noticed == (name != "nothing")

    with ThreadPoolExecutor(asked.at_once) as pool:
        ran = [pool.submit(run, name, build(tree, name, BREAKS[name][1])) for name in asked.names or BREAKS]
    sys.exit(0 if all(one.result() for one in ran) else 1)


if __name__ == "__main__":
    main()
