"""What Podman 4.3 says otherwise, and what it cannot do, by test; docs/podman.md tells people the same."""

from __future__ import annotations

TMP = "/tmp"  # noqa: S108 - the container's own
_DEFAULT_CAPABILITIES = [
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
]
"""All that it would leave a container."""

SAYS: dict[str, object] = {
    "every capability is dropped": _DEFAULT_CAPABILITIES,
    "no capability is added": [],
    "no new privileges, SELinux labels, and no profile switched off": [
        "no-new-privileges",
        "label=type:container_t,label=level:s0:c1,c2",
    ],
    "no device is handed in": [],
    "SIGTERM stops it": "15",
    "temporary files are in a tmpfs": {
        TMP: f"rw,nosuid,nodev,noexec,mode=1777,size={8 << 20},rprivate,tmpcopyup",
        # Not asked for: Podman makes them for every container whose root is read-only.
        "/run": "rw,rprivate,nosuid,nodev,tmpcopyup",
        "/var/tmp": "rw,rprivate,nosuid,nodev,tmpcopyup",  # noqa: S108 - the container's own
    },
    "it has processes of its own": "private",
    "it has a host name of its own": "private",
    "no swap is preferred or avoided": -1,
}
"""The same in its own words, by the item of test_container.ASKED."""

GAPS = {
    "test_create_asks_that[podman-its memory is shared with nobody]": "its API takes no IPC mode; the namespace is "
    "the container's own, but may be joined by another container",
    "test_create_asks_that[podman-the log is bounded]": "inspect does not tell; conmon gets --log-size-max",
    "test_create_asks_that[podman-no directory is bound the old way]": "inspect tells mounts as binds",
    "test_create_asks_that[podman-no limit of the engine's own is changed]": "inspect tells Podman's own ulimits",
    "test_create_asks_that[podman-names of this machine are the engine's to resolve]": "host-gateway is not known; "
    "mlflowd gives the address of the network's gateway",
    "test_the_network_mode_is_the_network": "inspect tells bridge for every network of that kind",
    "test_a_network_that_was_removed_is_made_again_by_the_start": "a network with a container cannot be removed",
    "test_out_of_memory_is_told": "inspect does not tell on a machine with cgroup v1",
    "test_an_image_without_the_program_ends_with_127_and_says_so": "its init ends with 1, in other words",
    "test_nothing_else_can_be_written": "/run and /var/tmp are a tmpfs each, without a size of their own",
    "test_a_follower_may_begin_before_the_first_line": "it answers with the first line; mlflowd asks again and again",
    "test_a_lines_stamp_has_a_fraction": "stamps of log lines are whole seconds",
    "test_a_start_that_failed_leaves_its_reason": "it keeps no error of a start that failed",
    "test_a_kill_by_hand_tells_its_signal_and_status": "events do not tell the signal",
    "test_a_stop_tells_kill_die_stop": "a stop is told as a die alone",
    "test_all_that_was_asked_of_it_is_told": "inspect tells the image's name where its id was given",
    "test_a_retired_one_has_another_name_and_is_never_restarted": "restart policies cannot be changed",
    "test_a_reinstated_one_is_what_it_was": "restart policies cannot be changed",
    "test_a_running_one_is_retired_and_goes_on": "restart policies cannot be changed",
}
"""Test, or test with its id, and the reason."""
