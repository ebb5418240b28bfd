"""Lanes: trials of one shape that train side by side in one process, as one stacked model.

group = Group(build, device)
lane = group.add(config, data, epochs, seed)      join and leave between epochs
rows = group.train_epoch()                        {lane: Row}: what each would have reported alone
state = group.state_dict(lane)                    a lone trial's state, and the other way round
group.remove(lane)
"""

from __future__ import annotations

from trainables.lanes.fusing import GROUP_PARAMETERS, LANE_PARAMETERS, bytes_per_lane, key
from trainables.lanes.group import Group, Lane, Row
from trainables.lanes.trials import side_by_side

__all__ = ["GROUP_PARAMETERS", "LANE_PARAMETERS", "Group", "Lane", "Row", "bytes_per_lane", "key", "side_by_side"]
