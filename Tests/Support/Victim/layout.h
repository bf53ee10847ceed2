// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Notes the process's mappings.
void layout_remember(void);

/// Reports the first difference to the mappings noted.
void layout_compare(void);
