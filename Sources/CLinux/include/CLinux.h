// SPDX-License-Identifier: Apache-2.0
//
// What Swift's Glibc module lacks: one function a system call, no policy, no allocation, -errno on failure.
#pragma once

#include "clinux_daemon.h"
#include "clinux_guardian.h"
#include "clinux_keeper.h"
#include "clinux_file.h"
#include "clinux_pagemap.h"
#include "clinux_privilege.h"
#include "clinux_probe.h"
#include "clinux_process.h"
#include "clinux_ptrace.h"
#include "clinux_socket.h"
#include "clinux_spawn.h"
#include "clinux_system.h"
#include "clinux_tracking_probe.h"
#include "clinux_uffd.h"
