"""What is wrong with a run folder, what that means, what to do; and the repair of what can be repaired safely.

    case.py       a run folder as far as it can be read, and Finding
    journal.py    findings in the journal, its mark, its backup
    lease.py      who is driving: the lock and the leases
    files.py      findings in the other files: each against what the journal says
    examine.py    all of them, in the order in which a person would look
    repairing.py   the journal out of itself and its backup; damaged files into quarantine/

Nothing is ever executed or unpickled, a repair never touches anything outside the folder, and what a row names
is moved aside, never deleted.
"""

from tuner.doctor.case import Finding
from tuner.doctor.examine import examine
from tuner.doctor.repairing import find_folder, repair

__all__ = ["Finding", "examine", "find_folder", "repair"]
