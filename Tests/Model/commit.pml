/* SPDX-License-Identifier: Apache-2.0
 *
 * Grant and completion as a model, with every fault that the design promises to survive. `.ci/check model` runs it through spin
 * (Debian package spin) and prints how many states were explored. By hand, in this folder:
 *
 *     spin -a -DFAULTS=2 commit.pml && cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m100000
 *     spin -DFAULTS=2 -t -p commit.pml        # replays what was found
 *
 * What is modelled, and where it is in the code:
 *
 *   machines.pml    SourceCommit and DestinationCommit, every event in every state, written by CommitModelTests from the code
 *   Source          SourceConversation and PageServerSession on the tracer's thread, with CheckpointedProcess and FrozenProcess
 *   Bulk            BulkService and PreCopyService on the thread of a bulk connection
 *   Destination     DestinationConversation on the tracer's thread, with PartialProcess and Reconnection
 *   Receiver        PreCopyThread, BulkThread and StagedThread, of which one is at work at a time
 *   Guardian        clinux_guardian_start
 *   Application     the process at the source, which writes its pages as long as it runs
 *   Human           an operator after a session that left the process stopped
 *   Fate            faults; endSource and endDestination are what the kernel does when a program dies: it lets go of what was traced
 *                   and closes connections and userfaultfds
 *
 * A connection is a queue in each direction. When it is broken, what is queued may still arrive or not, each side notices some time
 * later, and what is sent meanwhile is lost, with an error or without: so a lost message is a lost connection. Half-open
 * connections are found by keep-alive. From BUILT on the destination takes the session up again (SessionTable, SourceConversation+Resume):
 * the old queues are gone, it says what it has, and says again what may not have been heard. FAULTS is how many of these may happen, anywhere: a program dies, a connection breaks (that
 * of control or those of pages), a step fails, a deadline passes, an operator sends a signal, the original or the copy is killed or
 * exits, the guardian dies, a destination sends a wrong COMPLETE. A state in which nothing can happen is an error unless everybody in it is at a label `end_`; where a
 * session waits there, it waits for an operator, and says so by an assertion that there was a fault. A run with fewer faults than it
 * may have does not stand still, so every number of faults is run.
 *
 * Not modelled: one system call is one step, so a page server that dies between an injected call and its end; a peer that lies; time.
 * A guardian that dies besides its restorer leaves zeros: the one loss
 * that is known, excluded by name below.
 */
#ifndef DESTINATIONS
#define DESTINATIONS 1
#endif
#ifndef PAGES
#define PAGES 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef WRITES
#define WRITES 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define NOBODY 255

#include "machines.pml"

/* Of the original: `committed` is held with a SIGSTOP queued, which stops it as soon as nobody holds it; `freed` is killed behind a
 * COMPLETE, `clone` goes on behind one, `revived` by hand. Of a copy: `letting` is held but for some threads, `loose` is not held any
 * more but ends with the page connections; `exited` is what it has done by itself. */
mtype:lives = { absent, runs, held, committed, stopped, freed, clone, revived, letting, loose, exited, dead };
mtype:messages = { PRE_COPY, DESCRIBE, HANDED_OVER, BUILT, GRANT, RUNNING, COMPLETE, ACKNOWLEDGED, ABORT };
mtype:frames = { PAGE, PRE_COPIED, PRE_COPY_MAP };
mtype:jobs = { none, offered, working, succeeded, failed, over };
mtype:guards = { watches, released, gone };
mtype:sessions = { isOpen, isGranting, isGranted };
mtype:phases = { idle, preCopies, preCopied, serves, lostPages, finished };

byte faults;
#define fault d_step { faults < FAULTS -> faults++ }

/* The process at the source. */
mtype:lives original = runs;
byte writes;
byte version[PAGES];
#define isHeld (original == held || original == committed)

/* What the page server knows of its pages. */
bool armed;
bool written[PAGES], sentAhead[PAGES], unchanged[PAGES], served[PAGES];
bool scanned, mayStream;
mtype:jobs job = none;

/* Programs, connections, and who has the session. */
bool sourceOver, tableClosed;
byte owner = NOBODY;
/* What the table of sessions knows: whether there is a grant, and whether the destination has come back before one. */
mtype:sessions session = isOpen;
bool abandoned;
/* A control connection that takes the session up again and has not been heard yet; whether a stream is due, and at work. */
bool arrived[DESTINATIONS], mustStream[DESTINATIONS], streaming[DESTINATIONS];
/* The source has accepted a COMPLETE. */
bool accepted;
bool destinationOver[DESTINATIONS], cut[DESTINATIONS], pagesCut[DESTINATIONS], bulkOpen[DESTINATIONS];
chan controls = [DESTINATIONS] of { byte };
chan toSource[DESTINATIONS] = [8] of { mtype:messages, bool };
chan toDestination[DESTINATIONS] = [4] of { mtype:messages };
chan bulk[DESTINATIONS] = [1] of { mtype:frames, byte, byte };
#define broken(i) (cut[i] || sourceOver || destinationOver[i])
/* A program that ends lets the other read what was sent, unless it has not read everything itself. */
#define noticedAtSource(i) (cut[i] || (destinationOver[i] && (empty(toSource[i]) || nempty(toDestination[i]))))
#define noticedAtDestination(i) (cut[i] || (sourceOver && (empty(toDestination[i]) || nempty(toSource[i]))))
#define pagesBroken(i) (pagesCut[i] || sourceOver || destinationOver[i])

/* The copies. */
mtype:lives copy[DESTINATIONS] = absent;
mtype:guards guardian[DESTINATIONS] = watches;
mtype:phases receiver[DESTINATIONS] = idle;
bool hasRun[DESTINATIONS], acknowledged[DESTINATIONS], built[DESTINATIONS];
/* Pages that the destination has, as it said when it took the session up again. */
bool told[DESTINATIONS * PAGES];
bool kept[DESTINATIONS * PAGES], resident[DESTINATIONS * PAGES];
byte content[DESTINATIONS * PAGES];
#define at(i, p) ((i) * PAGES + (p))
#define copyRuns(i) (copy[i] == letting || copy[i] == loose || copy[i] == runs)

#if PAGES == 1
#define allPages(i, x) x(i, 0)
#define anyPage(i, x) x(i, 0)
#define everythingServed served[0]
#else
#define allPages(i, x) (x(i, 0) && x(i, 1))
#define anyPage(i, x) (x(i, 0) || x(i, 1))
#define everythingServed (served[0] && served[1])
#endif
#if DESTINATIONS == 1
#define somewhere(x) x(0)
#else
#define somewhere(x) (x(0) || x(1))
#endif
#define isResident(i, p) resident[at(i, p)]
#define isRight(i, p) (content[at(i, p)] == version[p])
#define allResident(i) allPages(i, isResident)
#define allRight(i) allPages(i, isRight)

/* ---- The kernel ---- */

/* The page server ends, or is killed: ptrace lets go, the tracker's userfaultfd is closed, every connection breaks. */
inline endSource() {
    sourceOver = true;
    armed = false;
    if
    :: original == committed -> original = stopped
    :: original == held -> original = runs
    :: else -> skip
    fi
}

/* The restorer ends, or is killed: what it holds by ptrace dies with it, its userfaultfd is closed, every connection breaks. */
inline endDestination(i) {
    destinationOver[i] = true;
    if
    :: copy[i] == held || copy[i] == letting -> copy[i] = dead
    :: else -> skip
    fi
}

/* ---- The page server ---- */

/* A send to a peer that is gone is lost. */
inline tell(i, message) { d_step {
    if
    :: broken(i) -> skip
    :: else -> toDestination[i]!message
    fi
} }

/* FrozenProcess.thaw() traps behind the grant. */
inline thaw() { d_step {
    if
    :: isHeld -> assert(original == held); original = runs
    :: else -> skip
    fi
} }

inline leaveStopped() { d_step {
    if
    :: isHeld -> assert(original == committed); original = stopped
    :: else -> skip
    fi
} }

inline goOnAsClone() { d_step {
    if
    :: isHeld -> original = clone
    :: else -> skip
    fi
} }

/* Takes everything of the tracker out of the process, with nobody at work on it any more. */
inline endTracking() {
    if
    :: d_step { job == offered -> job = none }
    :: job == working -> pagesCut[peer] = true; (job == succeeded || job == failed)
    :: job != offered && job != working -> skip
    fi;
    armed = false
}

/* The destination is back and says what it has: new connections, and what was under way on the old ones is gone. */
inline adopt(i) { d_step {
    arrived[i] = false;
    do
    :: toSource[i]?_, _
    :: empty(toSource[i]) -> break
    od;
    do
    :: toDestination[i]?_
    :: empty(toDestination[i]) -> break
    od;
    do
    :: bulk[i]?_, _, _
    :: empty(bulk[i]) -> break
    od;
    told[at(i, 0)] = resident[at(i, 0)];
#if PAGES > 1
    told[at(i, 1)] = resident[at(i, 1)];
#endif
    mustStream[i] = !accepted;
    if
    :: destinationOver[i] -> skip
    :: else -> cut[i] = false; pagesCut[i] = false
    fi
} }

/* Counts what the destination has and nobody has counted. */
inline countRest(i) { d_step {
    served[0] = served[0] || told[at(i, 0)];
#if PAGES > 1
    served[1] = served[1] || told[at(i, 1)];
#endif
    skip
} }

proctype Source() {
    mtype:sourceState state;
    mtype:actions action;
    mtype:resolutions resolution;
    mtype:messages message;
    bool claim, asked;
    byte peer;
    {
    skip;
end_ready:
    if
    :: controls?peer -> state = source_waiting
    :: fault -> goto ended
    :: original == dead -> goto ended
    fi;

talk:
    atomic {
    if
    :: toSource[peer]?message, claim -> skip
    :: noticedAtSource(peer) -> source_connectionLost(state, action, resolution); goto resolve
    :: d_step { faults < FAULTS && (state == source_waiting || state == source_frozen) -> faults++ };
        source_connectionLost(state, action, resolution); goto resolve
    :: abandoned && session == isOpen -> source_connectionLost(state, action, resolution); goto resolve
    /* A connection whose end has not been noticed here. */
    :: arrived[peer] && !streaming[peer] -> adopt(peer); goto talk
    :: fault -> goto stopRequested
    :: original == dead -> goto processEnded
    :: job == succeeded -> job = over; goto talk
    :: job == failed -> job = over; source_failed(state, action, resolution); goto undo
    fi;
    if
    :: message == PRE_COPY && state == source_waiting && job == none -> goto track
    :: message == PRE_COPY && !(state == source_waiting && job == none) ->
        source_violated(state, action, resolution); goto resolve
    :: message == DESCRIBE && (job == offered || job == working) ->
        source_violated(state, action, resolution); goto resolve
    :: message == DESCRIBE && job != offered && job != working ->
        source_descriptionRequested(state, action, resolution)
    :: message == BUILT -> source_builtArrived(state, action, resolution)
    :: message == RUNNING -> source_runningArrived(state, action, resolution)
    :: message == COMPLETE -> goto settle
    :: message == ABORT -> source_abortArrived(state, action, resolution)
    fi;
decide:
    if
    :: action == action_freeze -> goto freeze
    :: action == action_recordGrant -> goto record
    :: action == action_repeatGrant -> goto sendGrant
    :: action == action_reportRunning || action == action_ignore -> goto talk
    :: action == action_reject -> goto reject
    :: action == action_acknowledgeAndDispose -> goto acknowledge
    :: action == action_violation || action == action_resolve -> goto resolve
    fi
    }

track:
    if
    :: d_step {
        armed = true;
        written[0] = true;
#if PAGES > 1
        written[1] = true;
#endif
        job = offered }
    :: job = offered
    :: fault -> source_failed(state, action, resolution); goto undo
    fi;
    goto talk;

freeze:
    if
    /* The final scan: which of the pages that were sent ahead are as they were then. */
    :: d_step { original == runs -> original = held; mayStream = claim;
        unchanged[0] = armed && sentAhead[0] && !written[0];
#if PAGES > 1
        unchanged[1] = armed && sentAhead[1] && !written[1];
#endif
        scanned = true }
    :: fault -> source_failed(state, action, resolution); goto undo
    :: original == dead -> source_failed(state, action, resolution); goto undo
    fi;
    if
    :: fault -> source_failed(state, action, resolution); goto undo
    :: broken(peer) -> source_failed(state, action, resolution); goto undo
    :: d_step { !broken(peer) -> toDestination[peer]!HANDED_OVER }
    fi;
    goto talk;

record:
    /* Who was told that there is no such session has destroyed the copy. */
    if
    :: abandoned -> source_connectionLost(state, action, resolution); goto resolve
    :: d_step { !abandoned -> session = isGranting }
    fi;
    if
    :: d_step { original == held -> original = committed }
    :: original == dead -> source_failed(state, action, resolution); goto undo
    :: fault -> source_failed(state, action, resolution); goto undo
    fi;
    source_grantRecorded(state, action, resolution);
    assert(action == action_sendGrant);
    session = isGranted;
    mayStream = true;
sendGrant:
    if
    :: broken(peer) -> source_connectionLost(state, action, resolution); goto resolve
    :: broken(peer) -> skip
    :: d_step { !broken(peer) -> toDestination[peer]!GRANT }
    fi;
    goto talk;

settle:
    /* Pages are counted behind sending them, and the destination may be faster. */
    if
    :: everythingServed && claim -> source_equalCompleteArrived(state, action, resolution)
    :: everythingServed && !claim -> source_otherCompleteArrived(state, action, resolution)
    :: !everythingServed && !streaming[peer] && (pagesBroken(peer) || !mustStream[peer]) ->
        countRest(peer);
        if
        :: everythingServed && claim -> source_equalCompleteArrived(state, action, resolution)
        :: everythingServed && !claim -> source_otherCompleteArrived(state, action, resolution)
        :: !everythingServed -> source_otherCompleteArrived(state, action, resolution)
        fi
    :: fault -> source_otherCompleteArrived(state, action, resolution)
    fi;
    goto decide;

reject:
    tell(peer, ABORT);
    goto hold;

acknowledge:
    accepted = true;
    tell(peer, ACKNOWLEDGED);
    /* The only place where anything is freed. */
    if
    :: d_step { isHeld -> assert(allResident(peer) && allRight(peer)); original = freed }
    :: isHeld -> endTracking(); leaveStopped()
    :: isHeld -> endTracking(); goOnAsClone()
    :: original == dead -> skip
    fi;
linger:
    /* For a destination that has not heard it; not for ever, and not behind an end in order. */
    atomic {
    if
    :: toSource[peer]?message, claim ->
        if
        :: message == COMPLETE && claim -> source_equalCompleteArrived(state, action, resolution);
            assert(action == action_acknowledgeAgain); tell(peer, ACKNOWLEDGED); goto linger
        :: else -> goto linger
        fi
    :: arrived[peer] && !streaming[peer] -> adopt(peer); goto linger
    :: empty(toSource[peer]) -> goto leave
    fi
    }

stopRequested:
    if
    :: (state == source_granted || state == source_running) && !asked -> asked = true; goto talk
    :: (state == source_granted || state == source_running) && asked -> goto endGranted
    :: state != source_granted && state != source_running -> source_stopRequested(state, action, resolution); goto undo
    fi;

resolve:
    if
    :: resolution == resolution_leaveRunning -> skip
    :: resolution == resolution_thaw -> goto undo
    :: resolution == resolution_stayFrozen -> goto hold
    :: resolution == resolution_none -> goto leave
    fi;
    /* Nothing has happened: another destination may come. */
    assert(faults > 0);
    tell(peer, ABORT);
    endTracking();
    assert(original == runs || original == dead);
    d_step { cut[peer] = true; pagesCut[peer] = true; job = none; owner = NOBODY; abandoned = false };
    goto end_ready;

undo:
    if
    :: resolution == resolution_leaveRunning || resolution == resolution_none -> skip
    :: resolution == resolution_thaw -> thaw()
    :: resolution == resolution_stayFrozen -> goto hold
    fi;
    tell(peer, ABORT);
    goto leave;

hold:
    cut[peer] = true;
    assert(faults > 0);
    /* The destination may come back; whoever stops the page server or has bounded its patience ends this. */
end_held:
    if
    :: arrived[peer] && !streaming[peer] -> adopt(peer); goto talk
    :: fault -> skip
    :: original == dead -> goto processEnded
    fi;

endGranted:
    skip;
    leaveStopped();
    goto leave;

processEnded:
    tell(peer, ABORT);

leave:
    endTracking();
    assert(!isHeld && !armed);
ended:
    tableClosed = true;
    d_step { endSource() }
    } unless { sourceOver }
}

/* The thread of a bulk connection: first what was written while the process ran, then everything. */
proctype Bulk(byte me) {
    bool take[PAGES];
    byte round, page, bytes;
    {
    skip;
end_unopened:
    bulkOpen[me];
end_wait:
    streaming[me] = false;
end_idle:
    if
    :: d_step { owner == me && job == offered && !pagesBroken(me) -> job = working; round = 0 }
    :: d_step { owner == me && mayStream && scanned && job != offered && job != working && mustStream[me] && !pagesBroken(me) ->
        streaming[me] = true; mustStream[me] = false }; goto stream
    :: d_step { owner == me && job == offered && pagesBroken(me) -> job = failed }
        goto end_idle
    fi;
again:
    if
    :: !armed -> goto ahead
    :: armed -> page = 0
    fi;
    /* What it reports is write-protected: a write that comes after is seen by the next round. */
    do
    :: d_step { page < PAGES ->
        take[page] = written[page];
        if
        :: take[page] -> written[page] = false; sentAhead[page] = false
        :: else -> skip
        fi;
        page++ }
    :: page == PAGES -> break
    od;
    if
    :: round > 0 -> goto ahead
    :: round < ROUNDS -> round++
    fi;
    page = 0;
    do
    :: page < PAGES && !take[page] -> page++
    :: page < PAGES && take[page] ->
        bytes = version[page];
        if
        :: pagesBroken(me) -> job = failed; goto end_wait
        :: bulk[me]!PAGE, page, bytes -> d_step { sentAhead[page] = true; page++ }
        fi
    :: page == PAGES -> break
    od;
    goto again;
ahead:
    /* Before it is sent: what the destination does next must not come before it is known here. */
    job = succeeded;
    if
    :: pagesBroken(me) -> goto end_wait
    :: bulk[me]!PRE_COPIED, 0, 0
    fi;
    goto end_wait;

stream:
    page = 0;
    do
    :: d_step { page < PAGES && told[at(me, page)] -> served[page] = true; page++ }
    :: page < PAGES && !told[at(me, page)] && unchanged[page] ->
        if
        :: pagesBroken(me) -> goto end_wait
        :: bulk[me]!PRE_COPY_MAP, page, 0 -> d_step { served[page] = true; page++ }
        fi
    :: page < PAGES && !told[at(me, page)] && !unchanged[page] ->
        bytes = version[page];
        if
        :: pagesBroken(me) -> goto end_wait
        :: bulk[me]!PAGE, page, bytes -> d_step { served[page] = true; page++ }
        fi
    :: page == PAGES -> break
    od;
    goto end_wait
    } unless { sourceOver }
}

/* ---- The restorer ---- */

/* A send to a peer that is gone is lost, and may fail. */
#define sendOr(to, what, right, otherwise) \
    if \
    :: broken(to) -> goto otherwise \
    :: broken(to) -> skip \
    :: d_step { !broken(to) -> toSource[to]!what, right } \
    fi

#define expect(wanted) \
    atomic { \
    if \
    :: toDestination[me]?message -> \
        if \
        :: message == wanted -> skip \
        :: message != wanted -> goto undone \
        fi \
    :: noticedAtDestination(me) -> goto undone \
    :: receiver[me] == lostPages -> goto undone \
    :: fault -> goto undone \
    fi }

/* Every connection is made anew where there is a grant; before one the destination is told that there is no such session. */
#define mayReturn(i) (!sourceOver && !tableClosed && owner == i && session == isGranted && !arrived[i])
#define comeBack(i) arrived[i] = true; cut[i] = true; pagesCut[i] = true
#define isUnknown(i) (!sourceOver && !tableClosed && (owner != i || session == isOpen))
#define isBack(i) (!arrived[i] && !sourceOver)
#define isBackInVain(i) (sourceOver || tableClosed)

proctype Destination(byte me) {
    mtype:destinationState state = destination_building;
    mtype:actions action;
    mtype:resolutions resolution;
    mtype:messages message;
    bool asked, claim;
    {
    /* The table of sessions: one at a time, and none after a grant. */
    if
    :: d_step { !sourceOver && !tableClosed && owner == NOBODY -> owner = me; controls!me }
    :: sourceOver || tableClosed || owner != NOBODY -> goto ended
    fi;
    if
    :: d_step { !sourceOver && owner == me && !pagesCut[me] -> bulkOpen[me] = true; mustStream[me] = true }
    :: sourceOver || owner != me || pagesCut[me] -> goto undone
    :: fault -> goto undone
    fi;
    if
#if ROUNDS > 0
    :: receiver[me] = preCopies
#endif
    :: goto describe
    fi;
    sendOr(me, PRE_COPY, false, undone);
    atomic {
    if
    :: receiver[me] == preCopied -> skip
    :: receiver[me] == lostPages -> goto undone
    :: toDestination[me]?message -> goto undone
    :: noticedAtDestination(me) -> goto undone
    :: fault -> goto undone
    fi
    }

describe:
    /* With --eager everything comes before the grant. */
    if
    :: claim = true
    :: claim = false
    fi;
    sendOr(me, DESCRIBE, claim, undone);
    expect(HANDED_OVER);
    copy[me] = held;
    atomic {
    if
    :: guardian[me] == watches -> receiver[me] = serves
    :: guardian[me] != watches -> goto undone
    fi
    }
    if
    :: claim && allResident(me) -> skip
    :: !claim -> skip
    :: receiver[me] == lostPages -> goto undone
    :: claim && nempty(toDestination[me]) -> goto undone
    :: claim && noticedAtDestination(me) -> goto undone
    :: fault -> goto undone
    fi;
    /* Building may touch memory, and waits for the page. */
    if
    :: skip
    :: mayStream = true; (resident[at(me, 0)] || copy[me] == dead)
    fi;
    atomic {
    if
    :: copy[me] == dead -> goto undone
    :: copy[me] == held -> built[me] = true; destination_built(state, action, resolution); assert(action == action_sendBuilt)
    fi
    }
ask:
    sendOr(me, BUILT, false, unanswered);
unanswered:
    atomic {
    if
    :: toDestination[me]?message ->
        if
        :: message == GRANT -> skip
        :: message != GRANT -> goto undone
        fi
    :: noticedAtDestination(me) || receiver[me] == lostPages -> goto seekGrant
    :: fault -> goto undone
    fi
    }
    goto release;

seekGrant:
    destination_connectionLost(state, action, resolution);
    assert(resolution == resolution_reconnect && faults > 0);
    atomic {
    if
    :: toDestination[me]?message ->
        if
        :: message == GRANT -> goto release
        :: message != GRANT -> goto undone
        fi
    :: d_step { mayReturn(me) -> comeBack(me) }
    /* Told that there is no such session. */
    :: d_step { isUnknown(me) -> abandoned = abandoned || owner == me }; goto undone
    /* Not for ever: nothing has run. */
    :: sourceOver || tableClosed -> goto undone
    :: fault -> goto undone
    fi
    }
    if
    :: isBack(me) -> receiver[me] = serves
    :: isBackInVain(me) -> goto seekGrant
    fi;
    destination_resumed(state, action, resolution);
    assert(action == action_sendBuilt);
    goto ask;

release:
    destination_grantArrived(state, action, resolution);
    assert(action == action_release);
    /* Guards, timers: may need pages. Then the first thread is let go, */
    if
    :: copy[me] == dead -> goto undone
    :: fault -> goto undone
    :: receiver[me] == lostPages -> goto undone
    :: d_step { copy[me] == held -> copy[me] = letting; hasRun[me] = true }
    fi;
    /* and the last, */
    if
    :: fault -> goto undone
    :: copy[me] == dead || copy[me] == exited -> skip
    :: copy[me] == dead || copy[me] == exited -> goto undone
    :: d_step { copy[me] == letting -> copy[me] = loose }
    fi;
    /* and from now on nothing but the operator ends it. */
    if
    :: d_step { copy[me] == loose -> copy[me] = runs }
    :: copy[me] == dead -> goto undone
    :: copy[me] == exited -> skip
    fi;
    destination_released(state, action, resolution);
    assert(action == action_sendRunning);
    sendOr(me, RUNNING, false, connectionLost);

drain:
    atomic {
    if
    :: toDestination[me]?message ->
        if
        :: message == ACKNOWLEDGED -> destination_acknowledgementArrived(state, action, resolution)
        :: message == ABORT -> destination_abortArrived(state, action, resolution)
        :: message != ACKNOWLEDGED && message != ABORT -> destination_violated(state, action, resolution)
        fi;
        if
        :: action == action_finish -> assert(accepted); acknowledged[me] = true; goto ended
        :: action == action_violation || action == action_resolve -> goto lost
        fi
    :: noticedAtDestination(me) -> goto connectionLost
    :: receiver[me] == lostPages && state == destination_draining -> goto connectionLost
    :: allResident(me) && state == destination_draining -> goto becameResident
    /* A destination that lies, or has miscounted. */
    :: d_step { faults < FAULTS && !broken(me) && state == destination_draining -> faults++; toSource[me]!COMPLETE, false };
        goto drain
    /* The second one kills the process, unless signals are the process's own; the source keeps what it has. */
    :: fault -> 
        if
        :: !asked -> asked = true; goto drain
        :: asked && state == destination_draining ->
            if
            :: copyRuns(me) -> copy[me] = dead
            :: else -> skip
            fi;
            goto lost
        :: asked && state != destination_draining -> goto drain
        fi
    fi
    }

becameResident:
    /* Nothing is owed any more: from now on the death of this program must not harm the copy. */
    atomic {
    if
    :: guardian[me] == watches -> guardian[me] = released
    :: guardian[me] != watches -> skip
    fi
    }
    destination_becameResident(state, action, resolution);
    assert(action == action_sendComplete);
    claim = allRight(me);
    sendOr(me, COMPLETE, claim, connectionLost);
    goto drain;

connectionLost:
    destination_connectionLost(state, action, resolution);
    assert(resolution == resolution_reconnect && faults > 0);
end_seek:
    atomic {
    if
    :: toDestination[me]?message ->
        if
        :: message == ACKNOWLEDGED -> destination_acknowledgementArrived(state, action, resolution)
        :: message != ACKNOWLEDGED -> destination_abortArrived(state, action, resolution)
        fi;
        if
        :: action == action_finish -> assert(accepted); acknowledged[me] = true; goto ended
        :: action != action_finish -> goto lost
        fi
    :: d_step { mayReturn(me) -> comeBack(me) }
    :: allResident(me) && state == destination_draining -> goto becameResident
    /* Who has everything, or whose process has ended, does not wait for ever. */
    :: state == destination_completing && (sourceOver || tableClosed) ->
        destination_gaveUpReconnecting(state, action, resolution); assert(resolution == resolution_runOnUnacknowledged); goto ended
    :: copy[me] == dead || copy[me] == exited -> goto ended
    :: fault ->
        if
        :: copyRuns(me) && state == destination_draining -> copy[me] = dead
        :: else -> skip
        fi;
        goto ended
    fi
    }
    if
    :: isBack(me) -> skip
    :: isBackInVain(me) -> goto connectionLost
    fi;
    destination_resumed(state, action, resolution);
    if
    :: action == action_sendRunning -> receiver[me] = serves; sendOr(me, RUNNING, false, connectionLost)
    :: action == action_sendComplete -> claim = allRight(me); sendOr(me, COMPLETE, claim, connectionLost)
    fi;
    goto drain;

lost:
    /* Another destination may have been refused, but whoever has the grant waits only after a fault. */
    assert(faults > 0);
    d_step {
        if
        :: !broken(me) -> toSource[me]!ABORT, false
        :: else -> skip
        fi;
        cut[me] = true
    };
    if
    :: state == destination_completing -> goto ended
    :: state != destination_completing -> skip
    fi;
    /* Nobody but an operator ends this, unless the rest of the pages was under way. */
end_lost:
    if
    :: allResident(me) -> goto ended
    :: fault ->
        d_step {
            if
            :: copyRuns(me) -> copy[me] = dead
            :: else -> skip
            fi
        };
        goto ended
    :: copy[me] == dead || copy[me] == exited -> goto ended
    fi;

undone:
    assert(faults > 0);
    destination_failed(state, action, resolution);
    d_step {
        if
        :: copy[me] == held || copyRuns(me) -> assert(resolution == resolution_destroyCopy); copy[me] = dead
        :: else -> skip
        fi
    };
    d_step {
        if
        :: !broken(me) -> toSource[me]!ABORT, false
        :: else -> skip
        fi
    };
ended:
    receiver[me] = finished;
    /* Released only when the copy is dead or has everything. */
    d_step {
        if
        :: guardian[me] == watches -> assert(!copyRuns(me) || allResident(me)); guardian[me] = released
        :: else -> skip
        fi
    };
    d_step { endDestination(me) }
    } unless { destinationOver[me] }
}

proctype Receiver(byte me) {
    mtype:frames frame;
    byte page, bytes;
    {
    end_receiver: do
    :: atomic { (receiver[me] == preCopies || receiver[me] == serves) && nempty(bulk[me]) -> bulk[me]?frame, page, bytes;
        if
        :: frame == PRE_COPIED -> receiver[me] = preCopied
        :: frame == PRE_COPY_MAP -> assert(kept[at(me, page)]); resident[at(me, page)] = true
        :: frame == PAGE && receiver[me] == preCopies -> kept[at(me, page)] = true; content[at(me, page)] = bytes
        :: frame == PAGE && receiver[me] == serves -> resident[at(me, page)] = true; content[at(me, page)] = bytes
        fi }
    :: d_step { (receiver[me] == preCopies || receiver[me] == serves) && pagesBroken(me) ->
        /* Building may wait for a page that never comes; what is built may wait. */
        if
        :: copy[me] == held && !built[me] -> copy[me] = dead
        :: else -> skip
        fi;
        receiver[me] = lostPages }
    :: receiver[me] == finished -> break
    od
    } unless { destinationOver[me] }
}

/* Kills the copy when its restorer dies with pages owed; until then its userfaultfds keep threads waiting. */
proctype Guardian(byte me) {
    end_guardian:
    if
    :: d_step { destinationOver[me] && guardian[me] == watches ->
        if
        :: copyRuns(me) -> copy[me] = dead
        :: else -> skip
        fi;
        guardian[me] = released }
    :: d_step { faults < FAULTS && guardian[me] == watches -> faults++; guardian[me] = gone }
    fi
}

/* ---- The world ---- */

proctype Application() {
    end_application: do
    :: d_step { original == runs && writes < WRITES -> writes++; version[0]++; written[0] = armed || written[0] }
#if PAGES > 1
    :: d_step { original == runs && writes < WRITES -> writes++; version[1]++; written[1] = armed || written[1] }
#endif
    od
}

proctype FateOfSource() {
    end_fate: do
    :: d_step { faults < FAULTS && !sourceOver -> faults++; endSource() }
    :: d_step { faults < FAULTS && !sourceOver && (isHeld || original == runs) -> faults++; original = dead }
    od
}

proctype FateOfDestination(byte me) {
    end_fate: do
    :: d_step { faults < FAULTS && !destinationOver[me] -> faults++; endDestination(me) }
    :: d_step { faults < FAULTS && !broken(me) && owner == me -> faults++; cut[me] = true }
    :: d_step { faults < FAULTS && !pagesBroken(me) && bulkOpen[me] -> faults++; pagesCut[me] = true }
    :: d_step { faults < FAULTS && copyRuns(me) -> faults++; copy[me] = exited }
    od
}

#define isThere(i) (!destinationOver[i] || copyRuns(i))

/* Lets the process run again, knowing that restorer and copy are gone. */
proctype Human() {
    end_human: d_step { sourceOver && original == stopped && !somewhere(isThere) -> original = revived }
}

/* ---- What must hold ---- */

#define isWrong(i, p) (resident[at(i, p)] && content[at(i, p)] != version[p])
#define seesWrongPage(i) (copyRuns(i) && anyPage(i, isWrong))
#define readsZeros(i) (copyRuns(i) && destinationOver[i] && guardian[i] == released && !allResident(i))
#define isLost(i) (owner == i && copy[i] == dead)
#define ranOnce(i) (hasRun[i])
#define endedWell (acknowledged[0] && copy[0] == runs && (original == freed || original == stopped || original == clone))

active proctype Properties() {
    end_properties: do
    :: (original == runs || original == revived) && somewhere(copyRuns) ->
        printf("violated: at most one copy runs\n"); assert(false)
#if DESTINATIONS > 1
    :: copyRuns(0) && copyRuns(1) -> printf("violated: at most one copy runs\n"); assert(false)
#endif
    :: original == runs && somewhere(ranOnce) ->
        printf("violated: a process goes on by itself only if its copy never ran\n"); assert(false)
    :: original == freed && somewhere(isLost) ->
        printf("violated: no fault takes the copy once the original is freed\n"); assert(false)
    :: somewhere(seesWrongPage) -> printf("violated: no thread sees a wrong page\n"); assert(false)
    :: somewhere(readsZeros) -> printf("violated: no thread reads zeros\n"); assert(false)
    :: sourceOver && armed -> printf("violated: no trace of the tracker\n"); assert(false)
#if DESTINATIONS == 1
    :: faults == 0 && sourceOver && destinationOver[0] && !endedWell ->
        printf("violated: without a fault a move ends well\n"); assert(false)
#endif
    od
}

init {
    atomic {
        run Source(); run Application(); run Human(); run FateOfSource();
        run Bulk(0); run Destination(0); run Receiver(0); run Guardian(0); run FateOfDestination(0);
#if DESTINATIONS > 1
        run Bulk(1); run Destination(1); run Receiver(1); run Guardian(1); run FateOfDestination(1);
#endif
    }
}
