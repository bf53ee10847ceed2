/* SPDX-License-Identifier: Apache-2.0
 *
 * The machines of Sources/PageWire as they are: written by CommitModelTests, which fails when they differ. Not to be edited.
 */

mtype:actions = { action_acknowledgeAgain, action_acknowledgeAndDispose, action_finish, action_freeze, action_ignore, action_recordGrant, action_reject, action_release, action_repeatGrant, action_reportRunning, action_resolve, action_sendBuilt, action_sendComplete, action_sendGrant, action_sendRunning, action_violation, action_wait, action_withhold };
mtype:resolutions = { resolution_destroyCopy, resolution_keepServing, resolution_leaveRunning, resolution_none, resolution_nothing, resolution_reconnect, resolution_runOnUnacknowledged, resolution_stayFrozen, resolution_thaw };

mtype:sourceState = { source_waiting, source_frozen, source_ended, source_recording, source_granted, source_running, source_completed };

inline source_descriptionRequested(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_frozen; action = action_freeze; resolution = resolution_nothing
    :: state == source_frozen -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_ended -> action = action_violation; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_granted -> action = action_violation; resolution = resolution_stayFrozen
    :: state == source_running -> action = action_violation; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_violation; resolution = resolution_none
    fi
} }

inline source_builtArrived(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_violation; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_recording; action = action_recordGrant; resolution = resolution_nothing
    :: state == source_ended -> action = action_violation; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_granted -> action = action_repeatGrant; resolution = resolution_nothing
    :: state == source_running -> action = action_violation; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_violation; resolution = resolution_none
    fi
} }

inline source_grantRecorded(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_withhold; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_withhold; resolution = resolution_thaw
    :: state == source_ended -> action = action_withhold; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_granted; action = action_sendGrant; resolution = resolution_nothing
    :: state == source_granted -> action = action_withhold; resolution = resolution_stayFrozen
    :: state == source_running -> action = action_withhold; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_withhold; resolution = resolution_none
    fi
} }

inline source_runningArrived(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_violation; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_ended -> action = action_violation; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_granted -> state = source_running; action = action_reportRunning; resolution = resolution_nothing
    :: state == source_running -> action = action_ignore; resolution = resolution_nothing
    :: state == source_completed -> action = action_violation; resolution = resolution_none
    fi
} }

inline source_equalCompleteArrived(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_violation; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_ended -> action = action_violation; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_granted -> state = source_completed; action = action_acknowledgeAndDispose; resolution = resolution_nothing
    :: state == source_running -> state = source_completed; action = action_acknowledgeAndDispose; resolution = resolution_nothing
    :: state == source_completed -> action = action_acknowledgeAgain; resolution = resolution_nothing
    fi
} }

inline source_otherCompleteArrived(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_violation; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_ended -> action = action_violation; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_violation; resolution = resolution_thaw
    :: state == source_granted -> action = action_reject; resolution = resolution_nothing
    :: state == source_running -> action = action_reject; resolution = resolution_nothing
    :: state == source_completed -> action = action_violation; resolution = resolution_none
    fi
} }

inline source_connectionLost(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_ended -> action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_granted -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_running -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_resolve; resolution = resolution_none
    fi
} }

inline source_abortArrived(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_ended -> action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_granted -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_running -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_resolve; resolution = resolution_none
    fi
} }

inline source_violated(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_ended -> action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_granted -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_running -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_resolve; resolution = resolution_none
    fi
} }

inline source_failed(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_ended -> action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_granted -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_running -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_resolve; resolution = resolution_none
    fi
} }

inline source_stopRequested(state, action, resolution) { d_step {
    if
    :: state == source_waiting -> state = source_ended; action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_frozen -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_ended -> action = action_resolve; resolution = resolution_leaveRunning
    :: state == source_recording -> state = source_ended; action = action_resolve; resolution = resolution_thaw
    :: state == source_granted -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_running -> action = action_resolve; resolution = resolution_stayFrozen
    :: state == source_completed -> action = action_resolve; resolution = resolution_none
    fi
} }

mtype:destinationState = { destination_building, destination_awaitingGrant, destination_ended, destination_releasing, destination_draining, destination_completing, destination_acknowledged };

inline destination_built(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_awaitingGrant; action = action_sendBuilt; resolution = resolution_nothing
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_withhold; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_withhold; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_withhold; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_withhold; resolution = resolution_none
    fi
} }

inline destination_grantArrived(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_violation; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_releasing; action = action_release; resolution = resolution_nothing
    :: state == destination_ended -> action = action_violation; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_violation; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_violation; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_violation; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_violation; resolution = resolution_none
    fi
} }

inline destination_released(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_withhold; resolution = resolution_none
    :: state == destination_releasing -> state = destination_draining; action = action_sendRunning; resolution = resolution_nothing
    :: state == destination_draining -> action = action_withhold; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_withhold; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_withhold; resolution = resolution_none
    fi
} }

inline destination_becameResident(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_withhold; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_draining -> state = destination_completing; action = action_sendComplete; resolution = resolution_nothing
    :: state == destination_completing -> action = action_withhold; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_withhold; resolution = resolution_none
    fi
} }

inline destination_acknowledgementArrived(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_violation; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_violation; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_violation; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_violation; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_violation; resolution = resolution_keepServing
    :: state == destination_completing -> state = destination_acknowledged; action = action_finish; resolution = resolution_nothing
    :: state == destination_acknowledged -> action = action_violation; resolution = resolution_none
    fi
} }

inline destination_connectionLost(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> action = action_resolve; resolution = resolution_reconnect
    :: state == destination_ended -> action = action_resolve; resolution = resolution_none
    :: state == destination_releasing -> action = action_resolve; resolution = resolution_reconnect
    :: state == destination_draining -> action = action_resolve; resolution = resolution_reconnect
    :: state == destination_completing -> action = action_resolve; resolution = resolution_reconnect
    :: state == destination_acknowledged -> action = action_resolve; resolution = resolution_none
    fi
} }

inline destination_resumed(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_withhold; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> action = action_sendBuilt; resolution = resolution_nothing
    :: state == destination_ended -> action = action_withhold; resolution = resolution_none
    :: state == destination_releasing -> action = action_wait; resolution = resolution_nothing
    :: state == destination_draining -> action = action_sendRunning; resolution = resolution_nothing
    :: state == destination_completing -> action = action_sendComplete; resolution = resolution_nothing
    :: state == destination_acknowledged -> action = action_withhold; resolution = resolution_none
    fi
} }

inline destination_gaveUpReconnecting(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_resolve; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_resolve; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_resolve; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_resolve; resolution = resolution_none
    fi
} }

inline destination_abortArrived(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_resolve; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_resolve; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_resolve; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_resolve; resolution = resolution_none
    fi
} }

inline destination_violated(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_resolve; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_resolve; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_resolve; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_resolve; resolution = resolution_none
    fi
} }

inline destination_failed(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_resolve; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_resolve; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_resolve; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_resolve; resolution = resolution_none
    fi
} }

inline destination_stopRequested(state, action, resolution) { d_step {
    if
    :: state == destination_building -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_awaitingGrant -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_ended -> action = action_resolve; resolution = resolution_none
    :: state == destination_releasing -> state = destination_ended; action = action_resolve; resolution = resolution_destroyCopy
    :: state == destination_draining -> action = action_resolve; resolution = resolution_keepServing
    :: state == destination_completing -> action = action_resolve; resolution = resolution_runOnUnacknowledged
    :: state == destination_acknowledged -> action = action_resolve; resolution = resolution_none
    fi
} }
