// SPDX-License-Identifier: Apache-2.0
//
// OpenSSL 3 for Swift: the headers, and one inline function for each macro that Swift cannot import.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
