/* What Rhea calls itself. Clients parse COMPAT_VERSION: the version whose command line and QMP are spoken. */
#ifndef RHEA_CONTROL_VERSION_H
#define RHEA_CONTROL_VERSION_H

#define RHEA_VERSION "0.1"
#define COMPAT_VERSION "10.0.0"
enum { COMPAT_MAJOR = 10, COMPAT_MINOR = 0, COMPAT_MICRO = 0 };

#endif
