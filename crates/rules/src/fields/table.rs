//! Every field, by class: name, type, how numbers are printed, properties, what it says.
//!
//! Invariant: names, types and properties are those of Falco's libraries and plugins.

use super::{Class, Field, Format, Type, flag::*};

macro_rules! fields {
    ($($class:ident { $($id:ident $name:literal $type:ident $format:ident [$($flag:ident)*] $about:literal;)* })*) => {
        /// A field, densely numbered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum FieldId {
            $($(#[doc = $about] $id,)*)*
        }

        pub(super) static FIELDS: &[Field] = &[
            $($(Field {
                id: FieldId::$id,
                class: Class::$class,
                name: $name,
                kind: Type::$type,
                format: Format::$format,
                flags: 0 $(| $flag)*,
                about: $about,
            },)*)*
        ];
    };
}

fields! {
    Generic {
        EvtNum "evt.num" U64 Dec [] "number of the event, counted from 1";
        EvtTime "evt.time" Charbuf Dec [] "time of day with nanoseconds";
        EvtTimeS "evt.time.s" Charbuf Dec [] "time of day to the second";
        EvtTimeIso8601 "evt.time.iso8601" Charbuf Dec [] "time in ISO 8601, with nanoseconds and zone";
        EvtDatetime "evt.datetime" Charbuf Dec [] "date and time of day with nanoseconds";
        EvtDatetimeS "evt.datetime.s" Charbuf Dec [] "date and time of day to the second";
        EvtRawtime "evt.rawtime" AbsTime Dec [] "nanoseconds since 1970";
        EvtRawtimeS "evt.rawtime.s" AbsTime Dec [] "whole seconds since 1970";
        EvtRawtimeNs "evt.rawtime.ns" AbsTime Padded [] "nanoseconds within the second";
        EvtReltime "evt.reltime" RelTime Padded [] "nanoseconds since the first event";
        EvtReltimeS "evt.reltime.s" RelTime Dec [] "whole seconds since the first event";
        EvtReltimeNs "evt.reltime.ns" RelTime Padded [] "nanoseconds within the second, counted from the first event";
        EvtPluginname "evt.pluginname" Charbuf Dec [] "name of the plugin that made the event";
        EvtPlugininfo "evt.plugininfo" Charbuf Dec [] "summary of the event by the plugin that made it";
        EvtSource "evt.source" Charbuf Dec [] "source that the event comes from";
        EvtIsAsync "evt.is_async" Bool Dec [] "whether the event came asynchronously";
        EvtAsynctype "evt.asynctype" Charbuf Dec [] "type of an asynchronous event";
        EvtHostname "evt.hostname" Charbuf Dec [] "name of the host, as configured";
    }
    Event {
        EvtLatency "evt.latency" RelTime Dec [DEPRECATED] "time between entry and exit";
        EvtLatencyS "evt.latency.s" RelTime Dec [DEPRECATED] "whole seconds between entry and exit";
        EvtLatencyNs "evt.latency.ns" RelTime Padded [DEPRECATED] "nanoseconds within the second between entry and exit";
        EvtLatencyQuantized "evt.latency.quantized" U64 Dec [TABLE_ONLY DEPRECATED] "logarithm of the time between entry and exit";
        EvtLatencyHuman "evt.latency.human" Charbuf Dec [DEPRECATED] "time between entry and exit, for reading";
        EvtDeltatime "evt.deltatime" RelTime Dec [] "time since the event before";
        EvtDeltatimeS "evt.deltatime.s" RelTime Dec [] "whole seconds since the event before";
        EvtDeltatimeNs "evt.deltatime.ns" RelTime Padded [] "nanoseconds within the second since the event before";
        EvtOutputtime "evt.outputtime" Charbuf Dec [PRINT_ONLY] "time in the form that was asked for on the command line";
        EvtDir "evt.dir" Charbuf Dec [DEPRECATED] "direction: > on entry, < on exit";
        EvtType "evt.type" Charbuf Dec [] "name of the event, such as open";
        EvtTypeIs "evt.type.is" U32 Dec [ARG_REQUIRED KEY] "1 if the event is of the type in the argument";
        SyscallType "syscall.type" Charbuf Dec [] "name of the system call; unset for other events";
        EvtCategory "evt.category" Charbuf Dec [] "category of the event, such as file or net";
        EvtCpu "evt.cpu" I16 Dec [] "CPU on which it happened";
        EvtArgs "evt.args" Charbuf Dec [] "all arguments in one string";
        EvtArg "evt.arg" Charbuf Dec [ARG_REQUIRED INDEX KEY] "one argument as text, by name or by number";
        EvtRawarg "evt.rawarg" Dyn Dec [ARG_REQUIRED NO_RHS NO_TRANSFORMER KEY] "one argument in its own type, by name";
        EvtInfo "evt.info" Charbuf Dec [] "arguments or whatever sums up the event";
        EvtBuffer "evt.buffer" Bytebuf Dec [] "bytes that were read or written";
        EvtBuflen "evt.buflen" U64 Dec [] "length of the bytes that were read or written";
        EvtRes "evt.res" Charbuf Dec [] "result: SUCCESS, or the name of the error";
        EvtRawres "evt.rawres" I64 Dec [] "result as a number";
        EvtFailed "evt.failed" Bool Dec [] "whether the result is an error";
        EvtIsIo "evt.is_io" Bool Dec [] "whether it reads or writes";
        EvtIsIoRead "evt.is_io_read" Bool Dec [] "whether it reads";
        EvtIsIoWrite "evt.is_io_write" Bool Dec [] "whether it writes";
        EvtIoDir "evt.io_dir" Charbuf Dec [] "r for reads, w for writes";
        EvtIsWait "evt.is_wait" Bool Dec [] "whether the thread waits";
        EvtWaitLatency "evt.wait_latency" RelTime Dec [DEPRECATED] "time that the thread waited";
        EvtIsSyslog "evt.is_syslog" Bool Dec [] "whether it writes to /dev/log";
        EvtCount "evt.count" U32 Dec [] "1 for every event";
        EvtCountError "evt.count.error" U32 Dec [] "1 if it failed";
        EvtCountErrorFile "evt.count.error.file" U32 Dec [] "1 if it failed and is about files";
        EvtCountErrorNet "evt.count.error.net" U32 Dec [] "1 if it failed and is about the network";
        EvtCountErrorMemory "evt.count.error.memory" U32 Dec [] "1 if it failed and is about memory";
        EvtCountErrorOther "evt.count.error.other" U32 Dec [] "1 if it failed and is about something else";
        EvtCountExit "evt.count.exit" U32 Dec [] "1 on exit";
        EvtCountProcinfo "evt.count.procinfo" U32 Dec [TABLE_ONLY] "1 for statistics of a process";
        EvtCountThreadinfo "evt.count.threadinfo" U32 Dec [TABLE_ONLY] "1 for statistics of a thread";
        EvtAbspath "evt.abspath" Charbuf Dec [ARG_ALLOWED KEY] "absolute path from directory and name in the arguments; .src and .dst where there are two";
        EvtBuflenIn "evt.buflen.in" U64 Dec [TABLE_ONLY] "length of what was read";
        EvtBuflenOut "evt.buflen.out" U64 Dec [TABLE_ONLY] "length of what was written";
        EvtBuflenFile "evt.buflen.file" U64 Dec [TABLE_ONLY] "length of file input and output";
        EvtBuflenFileIn "evt.buflen.file.in" U64 Dec [TABLE_ONLY] "length of file input";
        EvtBuflenFileOut "evt.buflen.file.out" U64 Dec [TABLE_ONLY] "length of file output";
        EvtBuflenNet "evt.buflen.net" U64 Dec [TABLE_ONLY] "length of network input and output";
        EvtBuflenNetIn "evt.buflen.net.in" U64 Dec [TABLE_ONLY] "length of network input";
        EvtBuflenNetOut "evt.buflen.net.out" U64 Dec [TABLE_ONLY] "length of network output";
        EvtIsOpenRead "evt.is_open_read" Bool Dec [] "whether a path was opened for reading";
        EvtIsOpenWrite "evt.is_open_write" Bool Dec [] "whether a path was opened for writing";
        EvtInfraDockerName "evt.infra.docker.name" Charbuf Dec [TABLE_ONLY] "name of an event of Docker";
        EvtInfraDockerContainerId "evt.infra.docker.container.id" Charbuf Dec [TABLE_ONLY] "id of the container in an event of Docker";
        EvtInfraDockerContainerName "evt.infra.docker.container.name" Charbuf Dec [TABLE_ONLY] "name of the container in an event of Docker";
        EvtInfraDockerContainerImage "evt.infra.docker.container.image" Charbuf Dec [TABLE_ONLY] "image of the container in an event of Docker";
        EvtIsOpenExec "evt.is_open_exec" Bool Dec [] "whether a file was created with the right to execute";
        EvtIsOpenCreate "evt.is_open_create" Bool Dec [] "whether a file was created";
    }
    Process {
        ProcExe "proc.exe" Charbuf Dec [] "first argument of the command line";
        ProcPexe "proc.pexe" Charbuf Dec [] "proc.exe of the parent";
        ProcAexe "proc.aexe" Charbuf Dec [ARG_ALLOWED NO_RHS NO_TRANSFORMER ANY INDEX] "proc.exe of an ancestor, by level; of any ancestor without one";
        ProcExepath "proc.exepath" Charbuf Dec [] "path of the executable";
        ProcPexepath "proc.pexepath" Charbuf Dec [] "proc.exepath of the parent";
        ProcAexepath "proc.aexepath" Charbuf Dec [ARG_ALLOWED NO_RHS NO_TRANSFORMER ANY INDEX] "proc.exepath of an ancestor, by level; of any ancestor without one";
        ProcName "proc.name" Charbuf Dec [] "name of the process, as the kernel has it (15 bytes)";
        ProcPname "proc.pname" Charbuf Dec [] "proc.name of the parent";
        ProcAname "proc.aname" Charbuf Dec [ARG_ALLOWED NO_RHS NO_TRANSFORMER ANY INDEX] "proc.name of an ancestor, by level; of any ancestor without one";
        ProcArgs "proc.args" Charbuf Dec [ARG_ALLOWED INDEX] "arguments without the first; one of them by number";
        ProcAargs "proc.aargs" Charbuf Dec [ARG_ALLOWED INDEX] "proc.args of an ancestor, by level";
        ProcCmdline "proc.cmdline" Charbuf Dec [] "name and arguments";
        ProcPcmdline "proc.pcmdline" Charbuf Dec [] "proc.cmdline of the parent";
        ProcAcmdline "proc.acmdline" Charbuf Dec [ARG_ALLOWED NO_RHS NO_TRANSFORMER ANY INDEX] "proc.cmdline of an ancestor, by level; of any ancestor without one";
        ProcCmdnargs "proc.cmdnargs" U64 Dec [] "number of arguments";
        ProcCmdlenargs "proc.cmdlenargs" U64 Dec [] "length of all arguments together";
        ProcExeline "proc.exeline" Charbuf Dec [] "proc.exe and arguments";
        ProcEnv "proc.env" Charbuf Dec [ARG_ALLOWED INDEX KEY] "environment; one variable by name";
        ProcAenv "proc.aenv" Charbuf Dec [ARG_ALLOWED NO_RHS NO_TRANSFORMER ANY INDEX KEY] "proc.env of an ancestor, by level or by variable; of any ancestor without one";
        ProcCwd "proc.cwd" Charbuf Dec [] "working directory";
        ProcLoginshellid "proc.loginshellid" I64 Dec [] "pid of the oldest shell among the ancestors";
        ProcTty "proc.tty" U32 Dec [] "controlling terminal, 0 without one";
        ProcPid "proc.pid" I64 Dec [] "id of the process";
        ProcPpid "proc.ppid" I64 Dec [] "id of the parent";
        ProcApid "proc.apid" I64 Dec [ARG_ALLOWED NO_RHS NO_TRANSFORMER ANY INDEX] "id of an ancestor, by level; of any ancestor without one";
        ProcVpid "proc.vpid" I64 Dec [] "id of the process in its own pid namespace";
        ProcPvpid "proc.pvpid" I64 Dec [] "id of the parent in its own pid namespace";
        ProcSid "proc.sid" I64 Dec [] "id of the session";
        ProcSname "proc.sname" Charbuf Dec [] "proc.name of the session's leader";
        ProcSidExe "proc.sid.exe" Charbuf Dec [] "proc.exe of the session's leader";
        ProcSidExepath "proc.sid.exepath" Charbuf Dec [] "proc.exepath of the session's leader";
        ProcVpgid "proc.vpgid" I64 Dec [] "id of the process group in its own pid namespace";
        ProcVpgidName "proc.vpgid.name" Charbuf Dec [] "proc.name of the leader of the process group";
        ProcVpgidExe "proc.vpgid.exe" Charbuf Dec [] "proc.exe of the leader of the process group";
        ProcVpgidExepath "proc.vpgid.exepath" Charbuf Dec [] "proc.exepath of the leader of the process group";
        ProcPgid "proc.pgid" I64 Dec [] "id of the process group on the host";
        ProcPgidName "proc.pgid.name" Charbuf Dec [] "proc.name of the leader of the process group";
        ProcPgidExe "proc.pgid.exe" Charbuf Dec [] "proc.exe of the leader of the process group";
        ProcPgidExepath "proc.pgid.exepath" Charbuf Dec [] "proc.exepath of the leader of the process group";
        ProcDuration "proc.duration" RelTime Dec [] "nanoseconds since the process started";
        ProcPpidDuration "proc.ppid.duration" RelTime Dec [] "nanoseconds since the parent started";
        ProcPidTs "proc.pid.ts" RelTime Dec [] "time at which the process started";
        ProcPpidTs "proc.ppid.ts" RelTime Dec [] "time at which the parent started";
        ProcIsExeWritable "proc.is_exe_writable" Bool Dec [] "whether the process's user may write its executable";
        ProcIsExeUpperLayer "proc.is_exe_upper_layer" Bool Dec [] "whether the executable is in the upper layer of an overlay";
        ProcIsExeLowerLayer "proc.is_exe_lower_layer" Bool Dec [] "whether the executable is in a lower layer of an overlay";
        ProcIsExeFromMemfd "proc.is_exe_from_memfd" Bool Dec [] "whether the executable is a file in memory only";
        ProcIsSidLeader "proc.is_sid_leader" Bool Dec [] "whether the process leads its session";
        ProcIsVpgidLeader "proc.is_vpgid_leader" Bool Dec [] "whether the process leads its group, seen from its pid namespace";
        ProcIsPgidLeader "proc.is_pgid_leader" Bool Dec [] "whether the process leads its group";
        ProcExeIno "proc.exe_ino" I64 Dec [] "inode of the executable";
        ProcExeInoCtime "proc.exe_ino.ctime" AbsTime Dec [] "last change of the executable's inode";
        ProcExeInoMtime "proc.exe_ino.mtime" AbsTime Dec [] "last change of the executable's content";
        ProcExeInoCtimeDurationProcStart "proc.exe_ino.ctime_duration_proc_start" AbsTime Dec [] "nanoseconds from the change of the executable's inode to the start of the process";
        ProcExeInoCtimeDurationPidnsStart "proc.exe_ino.ctime_duration_pidns_start" AbsTime Dec [] "nanoseconds from the start of the pid namespace to the change of the executable's inode";
        ProcPidnsInitStartTs "proc.pidns_init_start_ts" U64 Dec [] "start of the pid namespace";
        ThreadCapPermitted "thread.cap_permitted" Charbuf Dec [] "permitted capabilities";
        ThreadCapInheritable "thread.cap_inheritable" Charbuf Dec [] "inheritable capabilities";
        ThreadCapEffective "thread.cap_effective" Charbuf Dec [] "effective capabilities";
        ProcFdopencount "proc.fdopencount" U64 Dec [] "number of open descriptors";
        ProcFdlimit "proc.fdlimit" I64 Dec [] "most descriptors that may be open";
        ProcFdusage "proc.fdusage" Double Dec [] "share of the descriptors that are open";
        ProcVmsize "proc.vmsize" U64 Dec [] "virtual memory in kilobytes";
        ProcVmrss "proc.vmrss" U64 Dec [] "resident memory in kilobytes";
        ProcVmswap "proc.vmswap" U64 Dec [] "swapped memory in kilobytes";
        ThreadPfmajor "thread.pfmajor" U64 Dec [] "major page faults so far";
        ThreadPfminor "thread.pfminor" U64 Dec [] "minor page faults so far";
        ThreadTid "thread.tid" I64 Dec [] "id of the thread";
        ThreadIsmain "thread.ismain" Bool Dec [] "whether it is the process's first thread";
        ThreadVtid "thread.vtid" I64 Dec [] "id of the thread in its own pid namespace";
        ThreadNametid "thread.nametid" Charbuf Dec [TABLE_ONLY] "name and id of the thread";
        ThreadExectime "thread.exectime" RelTime Dec [] "CPU time of the last slice";
        ThreadTotexectime "thread.totexectime" RelTime Dec [] "CPU time in all";
        ThreadCgroups "thread.cgroups" Charbuf Dec [] "all cgroups of the thread";
        ThreadCgroup "thread.cgroup" Charbuf Dec [ARG_REQUIRED KEY] "cgroup of the thread in one hierarchy";
        ProcNthreads "proc.nthreads" U64 Dec [] "number of threads";
        ProcNchilds "proc.nchilds" U64 Dec [] "number of child threads";
        ThreadCpu "thread.cpu" Double Dec [] "CPU of the thread in the last second";
        ThreadCpuUser "thread.cpu.user" Double Dec [] "CPU of the thread in user mode in the last second";
        ThreadCpuSystem "thread.cpu.system" Double Dec [] "CPU of the thread in the kernel in the last second";
        ThreadVmsize "thread.vmsize" U64 Dec [] "virtual memory in kilobytes, first thread only";
        ThreadVmrss "thread.vmrss" U64 Dec [] "resident memory in kilobytes, first thread only";
        ThreadVmsizeB "thread.vmsize.b" U64 Dec [TABLE_ONLY] "virtual memory in bytes, first thread only";
        ThreadVmrssB "thread.vmrss.b" U64 Dec [TABLE_ONLY] "resident memory in bytes, first thread only";
        ProcStdinType "proc.stdin.type" Charbuf Dec [] "type of descriptor 0";
        ProcStdoutType "proc.stdout.type" Charbuf Dec [] "type of descriptor 1";
        ProcStderrType "proc.stderr.type" Charbuf Dec [] "type of descriptor 2";
        ProcStdinName "proc.stdin.name" Charbuf Dec [] "name of descriptor 0";
        ProcStdoutName "proc.stdout.name" Charbuf Dec [] "name of descriptor 1";
        ProcStderrName "proc.stderr.name" Charbuf Dec [] "name of descriptor 2";
    }
    User {
        UserUid "user.uid" U32 Dec [] "id of the user";
        UserName "user.name" Charbuf Dec [] "name of the user";
        UserHomedir "user.homedir" Charbuf Dec [] "home directory of the user";
        UserShell "user.shell" Charbuf Dec [] "shell of the user";
        UserLoginuid "user.loginuid" I64 Dec [] "id of the user who logged in, -1 if none did";
        UserLoginname "user.loginname" Charbuf Dec [] "name of the user who logged in";
    }
    Group {
        GroupGid "group.gid" U32 Dec [] "id of the group";
        GroupName "group.name" Charbuf Dec [] "name of the group";
    }
    Fd {
        FdNum "fd.num" I64 Dec [] "number of the descriptor";
        FdType "fd.type" Charbuf Dec [] "type of the descriptor, such as file, directory, ipv4, pipe";
        FdTypechar "fd.typechar" Charbuf Dec [] "type of the descriptor as one character";
        FdName "fd.name" Charbuf Dec [] "path of a file, or both ends of a connection";
        FdDirectory "fd.directory" Charbuf Dec [] "directory of a file";
        FdFilename "fd.filename" Charbuf Dec [] "last part of a file's path";
        FdIp "fd.ip" IpAddr Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER PAIR] "client's or server's address";
        FdCip "fd.cip" IpAddr Dec [] "client's address";
        FdSip "fd.sip" IpAddr Dec [] "server's address";
        FdLip "fd.lip" IpAddr Dec [] "local address";
        FdRip "fd.rip" IpAddr Dec [] "remote address";
        FdPort "fd.port" Port Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER PAIR] "client's or server's port";
        FdCport "fd.cport" Port Dec [] "client's port";
        FdSport "fd.sport" Port Dec [] "server's port";
        FdLport "fd.lport" Port Dec [] "local port";
        FdRport "fd.rport" Port Dec [] "remote port";
        FdL4proto "fd.l4proto" Charbuf Dec [] "protocol of a socket: tcp, udp, icmp, raw";
        FdSockfamily "fd.sockfamily" Charbuf Dec [] "family of a socket: ip or unix";
        FdIsServer "fd.is_server" Bool Dec [] "whether the process holds the server's end";
        FdUid "fd.uid" Charbuf Dec [] "thread and descriptor in one string";
        FdContainername "fd.containername" Charbuf Dec [] "container's id and fd.name";
        FdContainerdirectory "fd.containerdirectory" Charbuf Dec [] "container's id and fd.directory";
        FdProto "fd.proto" Port Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER PAIR] "client's or server's protocol, by port";
        FdCproto "fd.cproto" Charbuf Dec [] "client's protocol, by port";
        FdSproto "fd.sproto" Charbuf Dec [] "server's protocol, by port";
        FdLproto "fd.lproto" Charbuf Dec [] "local protocol, by port";
        FdRproto "fd.rproto" Charbuf Dec [] "remote protocol, by port";
        FdNet "fd.net" IpNet Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER PAIR] "client's or server's network";
        FdCnet "fd.cnet" IpNet Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER] "client's network";
        FdSnet "fd.snet" IpNet Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER] "server's network";
        FdLnet "fd.lnet" IpNet Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER] "local network";
        FdRnet "fd.rnet" IpNet Dec [FILTER_ONLY NO_RHS NO_TRANSFORMER] "remote network";
        FdConnected "fd.connected" Bool Dec [] "whether a socket is connected";
        FdNameChanged "fd.name_changed" Bool Dec [] "whether the event gave the descriptor another name";
        FdCipName "fd.cip.name" Charbuf Dec [NO_RHS NO_TRANSFORMER] "domain name of the client's address";
        FdSipName "fd.sip.name" Charbuf Dec [NO_RHS NO_TRANSFORMER] "domain name of the server's address";
        FdLipName "fd.lip.name" Charbuf Dec [NO_RHS NO_TRANSFORMER] "domain name of the local address";
        FdRipName "fd.rip.name" Charbuf Dec [NO_RHS NO_TRANSFORMER] "domain name of the remote address";
        FdDev "fd.dev" I32 Hex [] "device of the file";
        FdDevMajor "fd.dev.major" I32 Dec [] "major number of the device";
        FdDevMinor "fd.dev.minor" I32 Dec [] "minor number of the device";
        FdIno "fd.ino" I64 Dec [] "inode of the file";
        FdNameraw "fd.nameraw" Charbuf Dec [] "fd.name as the process gave it";
        FdTypes "fd.types" Charbuf Dec [LIST ARG_ALLOWED NO_RHS INDEX] "types of all descriptors of the event";
        FdIsUpperLayer "fd.is_upper_layer" Bool Dec [] "whether the file is in the upper layer of an overlay";
        FdIsLowerLayer "fd.is_lower_layer" Bool Dec [] "whether the file is in a lower layer of an overlay";
    }
    FsPath {
        FsPathName "fs.path.name" Charbuf Dec [] "path that is worked on, absolute";
        FsPathNameraw "fs.path.nameraw" Charbuf Dec [] "path that is worked on, as the process gave it";
        FsPathSource "fs.path.source" Charbuf Dec [] "path that is moved, copied or linked to, absolute";
        FsPathSourceraw "fs.path.sourceraw" Charbuf Dec [] "path that is moved, copied or linked to, as the process gave it";
        FsPathTarget "fs.path.target" Charbuf Dec [] "path that comes to be, absolute";
        FsPathTargetraw "fs.path.targetraw" Charbuf Dec [] "path that comes to be, as the process gave it";
    }
    FdList {
        FdlistNums "fdlist.nums" Charbuf Dec [] "numbers of the polled descriptors";
        FdlistNames "fdlist.names" Charbuf Dec [] "names of the polled descriptors";
        FdlistCips "fdlist.cips" Charbuf Dec [] "client's addresses of the polled descriptors";
        FdlistSips "fdlist.sips" Charbuf Dec [] "server's addresses of the polled descriptors";
        FdlistCports "fdlist.cports" Charbuf Dec [] "client's ports of the polled descriptors";
        FdlistSports "fdlist.sports" Charbuf Dec [] "server's ports of the polled descriptors";
    }
    Util {
        UtilCnt "util.cnt" U64 Dec [] "a counter that grows with each look";
    }
    Container {
        ContainerId "container.id" Charbuf Dec [SUGGESTED] "first 12 characters of the container's id; host outside containers";
        ContainerFullId "container.full_id" Charbuf Dec [] "id of the container";
        ContainerName "container.name" Charbuf Dec [SUGGESTED] "name of the container";
        ContainerImage "container.image" Charbuf Dec [] "name of the image";
        ContainerImageId "container.image.id" Charbuf Dec [] "id of the image";
        ContainerType "container.type" Charbuf Dec [] "kind of runtime that made the container";
        ContainerPrivileged "container.privileged" Bool Dec [] "whether the container is privileged";
        ContainerMounts "container.mounts" Charbuf Dec [] "all mounts, each source:dest:mode:rdrw:propagation";
        ContainerMount "container.mount" Charbuf Dec [ARG_REQUIRED INDEX KEY] "one mount, by number or source";
        ContainerMountSource "container.mount.source" Charbuf Dec [ARG_REQUIRED INDEX KEY] "source of a mount, by number or destination";
        ContainerMountDest "container.mount.dest" Charbuf Dec [ARG_REQUIRED INDEX KEY] "destination of a mount, by number or source";
        ContainerMountMode "container.mount.mode" Charbuf Dec [ARG_REQUIRED INDEX KEY] "mode of a mount, by number or source";
        ContainerMountRdwr "container.mount.rdwr" Charbuf Dec [ARG_REQUIRED INDEX KEY] "whether a mount can be written, by number or source";
        ContainerMountPropagation "container.mount.propagation" Charbuf Dec [ARG_REQUIRED INDEX KEY] "propagation of a mount, by number or source";
        ContainerImageRepository "container.image.repository" Charbuf Dec [SUGGESTED] "image without tag and digest";
        ContainerImageTag "container.image.tag" Charbuf Dec [SUGGESTED] "tag of the image";
        ContainerImageDigest "container.image.digest" Charbuf Dec [] "digest of the image in its registry";
        ContainerHealthcheck "container.healthcheck" Charbuf Dec [DEPRECATED] "health check of the container";
        ContainerLivenessProbe "container.liveness_probe" Charbuf Dec [DEPRECATED] "liveness probe of the container";
        ContainerReadinessProbe "container.readiness_probe" Charbuf Dec [DEPRECATED] "readiness probe of the container";
        ContainerStartTs "container.start_ts" AbsTime Dec [] "time at which the container started";
        ContainerDuration "container.duration" RelTime Dec [] "nanoseconds since the container started";
        ContainerIp "container.ip" Charbuf Dec [] "address of the container";
        ContainerCniJson "container.cni.json" Charbuf Dec [] "result of the network plugin, as JSON";
        ContainerHostPid "container.host_pid" Bool Dec [] "whether the container is in the host's pid namespace";
        ContainerHostNetwork "container.host_network" Bool Dec [] "whether the container is in the host's network namespace";
        ContainerHostIpc "container.host_ipc" Bool Dec [] "whether the container is in the host's IPC namespace";
        ContainerLabel "container.label" Charbuf Dec [ARG_REQUIRED KEY] "one label of the container";
        ContainerLabels "container.labels" Charbuf Dec [] "all labels of the container";
        ProcIsContainerHealthcheck "proc.is_container_healthcheck" Bool Dec [DEPRECATED] "whether the process is a health check";
        ProcIsContainerLivenessProbe "proc.is_container_liveness_probe" Bool Dec [DEPRECATED] "whether the process is a liveness probe";
        ProcIsContainerReadinessProbe "proc.is_container_readiness_probe" Bool Dec [DEPRECATED] "whether the process is a readiness probe";
        K8sPodName "k8s.pod.name" Charbuf Dec [SUGGESTED] "name of the pod";
        K8sNsName "k8s.ns.name" Charbuf Dec [SUGGESTED] "namespace of the pod";
        K8sPodId "k8s.pod.id" Charbuf Dec [] "uid of the pod, under its old name";
        K8sPodUid "k8s.pod.uid" Charbuf Dec [] "uid of the pod";
        K8sPodSandboxId "k8s.pod.sandbox_id" Charbuf Dec [] "first 12 characters of the id of the pod's sandbox";
        K8sPodFullSandboxId "k8s.pod.full_sandbox_id" Charbuf Dec [] "id of the pod's sandbox";
        K8sPodLabel "k8s.pod.label" Charbuf Dec [ARG_REQUIRED KEY] "one label of the pod";
        K8sPodLabels "k8s.pod.labels" Charbuf Dec [] "all labels of the pod";
        K8sPodIp "k8s.pod.ip" Charbuf Dec [] "address of the pod";
        K8sPodCniJson "k8s.pod.cni.json" Charbuf Dec [] "result of the network plugin for the pod, as JSON";
        K8sRcName "k8s.rc.name" Charbuf Dec [DEPRECATED] "name of the replication controller, no longer filled";
        K8sRcId "k8s.rc.id" Charbuf Dec [DEPRECATED] "uid of the replication controller, no longer filled";
        K8sRcLabel "k8s.rc.label" Charbuf Dec [ARG_REQUIRED KEY DEPRECATED] "one label of the replication controller, no longer filled";
        K8sRcLabels "k8s.rc.labels" Charbuf Dec [DEPRECATED] "all labels of the replication controller, no longer filled";
        K8sSvcName "k8s.svc.name" Charbuf Dec [DEPRECATED] "name of the service, no longer filled";
        K8sSvcId "k8s.svc.id" Charbuf Dec [DEPRECATED] "uid of the service, no longer filled";
        K8sSvcLabel "k8s.svc.label" Charbuf Dec [ARG_REQUIRED KEY DEPRECATED] "one label of the service, no longer filled";
        K8sSvcLabels "k8s.svc.labels" Charbuf Dec [DEPRECATED] "all labels of the service, no longer filled";
        K8sNsId "k8s.ns.id" Charbuf Dec [DEPRECATED] "uid of the namespace, no longer filled";
        K8sNsLabel "k8s.ns.label" Charbuf Dec [ARG_REQUIRED KEY DEPRECATED] "one label of the namespace, no longer filled";
        K8sNsLabels "k8s.ns.labels" Charbuf Dec [DEPRECATED] "all labels of the namespace, no longer filled";
        K8sRsName "k8s.rs.name" Charbuf Dec [DEPRECATED] "name of the replica set, no longer filled";
        K8sRsId "k8s.rs.id" Charbuf Dec [DEPRECATED] "uid of the replica set, no longer filled";
        K8sRsLabel "k8s.rs.label" Charbuf Dec [ARG_REQUIRED KEY DEPRECATED] "one label of the replica set, no longer filled";
        K8sRsLabels "k8s.rs.labels" Charbuf Dec [DEPRECATED] "all labels of the replica set, no longer filled";
        K8sDeploymentName "k8s.deployment.name" Charbuf Dec [DEPRECATED] "name of the deployment, no longer filled";
        K8sDeploymentId "k8s.deployment.id" Charbuf Dec [DEPRECATED] "uid of the deployment, no longer filled";
        K8sDeploymentLabel "k8s.deployment.label" Charbuf Dec [ARG_REQUIRED KEY DEPRECATED] "one label of the deployment, no longer filled";
        K8sDeploymentLabels "k8s.deployment.labels" Charbuf Dec [DEPRECATED] "all labels of the deployment, no longer filled";
    }
    Audit {
        KaAuditid "ka.auditid" Charbuf Dec [] "id of the audit event";
        KaStage "ka.stage" Charbuf Dec [] "stage of the request";
        KaAuthDecision "ka.auth.decision" Charbuf Dec [] "decision of the authorizer";
        KaAuthReason "ka.auth.reason" Charbuf Dec [] "reason of the authorizer";
        KaAuthOpenshiftDecision "ka.auth.openshift.decision" Charbuf Dec [] "decision of OpenShift's authentication";
        KaValidationsAdmissionPolicyFailure "ka.validations.admission.policy.failure" Charbuf Dec [] "failure of a validating admission policy";
        KaSecurityPodViolations "ka.security.pod.violations" Charbuf Dec [] "violations of pod security";
        KaAuthOpenshiftUsername "ka.auth.openshift.username" Charbuf Dec [] "user that OpenShift's authentication was tried for";
        KaUserName "ka.user.name" Charbuf Dec [] "user who asked";
        KaUserGroups "ka.user.groups" Charbuf Dec [LIST] "groups of the user who asked";
        KaImpuserName "ka.impuser.name" Charbuf Dec [] "user who is impersonated";
        KaVerb "ka.verb" Charbuf Dec [] "verb of the request";
        KaUri "ka.uri" Charbuf Dec [] "URI of the request";
        KaUriParam "ka.uri.param" Charbuf Dec [ARG_REQUIRED KEY] "one parameter of the query";
        KaTargetName "ka.target.name" Charbuf Dec [] "name of the object";
        KaTargetNamespace "ka.target.namespace" Charbuf Dec [] "namespace of the object";
        KaTargetResource "ka.target.resource" Charbuf Dec [] "resource of the object";
        KaTargetSubresource "ka.target.subresource" Charbuf Dec [] "subresource of the object";
        KaTargetPodName "ka.target.pod.name" Charbuf Dec [] "name of the pod, whether it is the object or holds it";
        KaReqBindingSubjects "ka.req.binding.subjects" Charbuf Dec [LIST] "subjects of a role binding";
        KaReqBindingSubjectsUserNames "ka.req.binding.subjects.user_names" Charbuf Dec [LIST] "users among the subjects";
        KaReqBindingSubjectsServiceaccountNames "ka.req.binding.subjects.serviceaccount_names" Charbuf Dec [LIST] "service accounts among the subjects";
        KaReqBindingSubjectsServiceaccountNsNames "ka.req.binding.subjects.serviceaccount_ns_names" Charbuf Dec [LIST] "service accounts among the subjects, with namespace";
        KaReqBindingSubjectsGroupNames "ka.req.binding.subjects.group_names" Charbuf Dec [LIST] "groups among the subjects";
        KaReqBindingRole "ka.req.binding.role" Charbuf Dec [] "role that is bound";
        KaReqBindingSubjectHasName "ka.req.binding.subject.has_name" Charbuf Dec [ARG_REQUIRED KEY] "whether a subject has the name; kept for old rules";
        KaReqConfigmapName "ka.req.configmap.name" Charbuf Dec [] "name of the config map";
        KaReqConfigmapObj "ka.req.configmap.obj" Charbuf Dec [] "content of the config map";
        KaReqPodContainersArgs "ka.req.pod.containers.args" Charbuf Dec [ARG_ALLOWED INDEX LIST] "arguments of the containers";
        KaReqPodContainersCommand "ka.req.pod.containers.command" Charbuf Dec [ARG_ALLOWED INDEX LIST] "commands of the containers";
        KaReqPodContainersName "ka.req.pod.containers.name" Charbuf Dec [ARG_ALLOWED INDEX LIST] "names of the containers";
        KaReqPodContainersImage "ka.req.pod.containers.image" Charbuf Dec [ARG_ALLOWED INDEX LIST] "images of the containers";
        KaReqContainerImage "ka.req.container.image" Charbuf Dec [] "image of the first container";
        KaReqPodContainersImageRepository "ka.req.pod.containers.image.repository" Charbuf Dec [ARG_ALLOWED INDEX LIST] "images of the containers without tag and digest";
        KaReqContainerImageRepository "ka.req.container.image.repository" Charbuf Dec [] "image of the first container without tag and digest";
        KaReqPodHostIpc "ka.req.pod.host_ipc" Charbuf Dec [] "hostIPC of the pod";
        KaReqPodHostNetwork "ka.req.pod.host_network" Charbuf Dec [] "hostNetwork of the pod";
        KaReqContainerHostNetwork "ka.req.container.host_network" Charbuf Dec [] "hostNetwork of the pod, under its old name";
        KaReqPodHostPid "ka.req.pod.host_pid" Charbuf Dec [] "hostPID of the pod";
        KaReqPodContainersHostPort "ka.req.pod.containers.host_port" Charbuf Dec [ARG_ALLOWED INDEX LIST] "host ports of the containers";
        KaReqPodContainersPrivileged "ka.req.pod.containers.privileged" Charbuf Dec [ARG_ALLOWED INDEX LIST] "privileged flags of the containers";
        KaReqContainerPrivileged "ka.req.container.privileged" Charbuf Dec [] "whether any container is privileged, under its old name";
        KaReqPodContainersAllowPrivilegeEscalation "ka.req.pod.containers.allow_privilege_escalation" Charbuf Dec [ARG_ALLOWED INDEX LIST] "flags that allow containers to gain privileges";
        KaReqPodContainersReadOnlyFs "ka.req.pod.containers.read_only_fs" Charbuf Dec [ARG_ALLOWED INDEX LIST] "flags that make root file systems read-only";
        KaReqPodRunAsUser "ka.req.pod.run_as_user" Charbuf Dec [] "user of the pod";
        KaReqPodContainersRunAsUser "ka.req.pod.containers.run_as_user" Charbuf Dec [ARG_ALLOWED INDEX LIST] "users of the containers";
        KaReqPodContainersEffRunAsUser "ka.req.pod.containers.eff_run_as_user" Charbuf Dec [ARG_ALLOWED INDEX LIST] "users that the containers will run as";
        KaReqPodRunAsGroup "ka.req.pod.run_as_group" Charbuf Dec [] "group of the pod";
        KaReqPodContainersRunAsGroup "ka.req.pod.containers.run_as_group" Charbuf Dec [ARG_ALLOWED INDEX LIST] "groups of the containers";
        KaReqPodContainersEffRunAsGroup "ka.req.pod.containers.eff_run_as_group" Charbuf Dec [ARG_ALLOWED INDEX LIST] "groups that the containers will run as";
        KaReqPodContainersProcMount "ka.req.pod.containers.proc_mount" Charbuf Dec [ARG_ALLOWED INDEX LIST] "procMount of the containers";
        KaReqRoleRules "ka.req.role.rules" Charbuf Dec [LIST] "rules of the role";
        KaReqRoleRulesApiGroups "ka.req.role.rules.apiGroups" Charbuf Dec [ARG_ALLOWED INDEX LIST] "API groups of the role's rules";
        KaReqRoleRulesNonResourceURLs "ka.req.role.rules.nonResourceURLs" Charbuf Dec [ARG_ALLOWED INDEX LIST] "URLs of the role's rules";
        KaReqRoleRulesVerbs "ka.req.role.rules.verbs" Charbuf Dec [ARG_ALLOWED INDEX LIST] "verbs of the role's rules";
        KaReqRoleRulesResources "ka.req.role.rules.resources" Charbuf Dec [ARG_ALLOWED INDEX LIST] "resources of the role's rules";
        KaReqPodFsGroup "ka.req.pod.fs_group" Charbuf Dec [] "fsGroup of the pod";
        KaReqPodSupplementalGroups "ka.req.pod.supplemental_groups" Charbuf Dec [LIST] "supplemental groups of the pod";
        KaReqPodContainersAddCapabilities "ka.req.pod.containers.add_capabilities" Charbuf Dec [ARG_ALLOWED INDEX LIST] "capabilities that containers add";
        KaReqServiceType "ka.req.service.type" Charbuf Dec [] "type of the service";
        KaReqServicePorts "ka.req.service.ports" Charbuf Dec [ARG_ALLOWED INDEX LIST] "ports of the service";
        KaReqPodVolumesHostpath "ka.req.pod.volumes.hostpath" Charbuf Dec [ARG_ALLOWED INDEX LIST] "host paths of the volumes";
        KaReqVolumeHostpath "ka.req.volume.hostpath" Charbuf Dec [ARG_REQUIRED KEY] "whether a volume has the host path";
        KaReqPodVolumesFlexvolumeDriver "ka.req.pod.volumes.flexvolume_driver" Charbuf Dec [ARG_ALLOWED INDEX LIST] "flexvolume drivers of the volumes";
        KaReqPodVolumesVolumeType "ka.req.pod.volumes.volume_type" Charbuf Dec [ARG_ALLOWED INDEX LIST] "types of the volumes";
        KaRespName "ka.resp.name" Charbuf Dec [] "name of the object in the response";
        KaResponseCode "ka.response.code" Charbuf Dec [] "status code of the response";
        KaResponseReason "ka.response.reason" Charbuf Dec [] "reason of the response";
        KaUseragent "ka.useragent" Charbuf Dec [] "user agent of the client";
        KaSourceips "ka.sourceips" Charbuf Dec [ARG_ALLOWED INDEX LIST] "addresses of the client";
        KaClusterName "ka.cluster.name" Charbuf Dec [] "name of the cluster";
        KaReqPodInitContainersName "ka.req.pod.initContainers.name" Charbuf Dec [ARG_ALLOWED INDEX LIST] "names of the init containers";
        KaReqPodInitContainersImage "ka.req.pod.initContainers.image" Charbuf Dec [ARG_ALLOWED INDEX LIST] "images of the init containers";
        KaReqPodInitContainersImageRepository "ka.req.pod.initContainers.image.repository" Charbuf Dec [ARG_ALLOWED INDEX LIST] "images without tag and digest of the init containers";
        KaReqPodInitContainersCommand "ka.req.pod.initContainers.command" Charbuf Dec [ARG_ALLOWED INDEX LIST] "commands of the init containers";
        KaReqPodInitContainersArgs "ka.req.pod.initContainers.args" Charbuf Dec [ARG_ALLOWED INDEX LIST] "arguments of the init containers";
        KaReqPodInitContainersPrivileged "ka.req.pod.initContainers.privileged" Charbuf Dec [ARG_ALLOWED INDEX LIST] "privileged flags of the init containers";
        KaReqPodInitContainersAllowPrivilegeEscalation "ka.req.pod.initContainers.allow_privilege_escalation" Charbuf Dec [ARG_ALLOWED INDEX LIST] "flags that allow to gain privileges of the init containers";
        KaReqPodInitContainersReadOnlyFs "ka.req.pod.initContainers.read_only_fs" Charbuf Dec [ARG_ALLOWED INDEX LIST] "flags that make root file systems read-only of the init containers";
        KaReqPodInitContainersRunAsUser "ka.req.pod.initContainers.run_as_user" Charbuf Dec [ARG_ALLOWED INDEX LIST] "users of the init containers";
        KaReqPodInitContainersEffRunAsUser "ka.req.pod.initContainers.eff_run_as_user" Charbuf Dec [ARG_ALLOWED INDEX LIST] "users that will be run as of the init containers";
        KaReqPodInitContainersRunAsGroup "ka.req.pod.initContainers.run_as_group" Charbuf Dec [ARG_ALLOWED INDEX LIST] "groups of the init containers";
        KaReqPodInitContainersEffRunAsGroup "ka.req.pod.initContainers.eff_run_as_group" Charbuf Dec [ARG_ALLOWED INDEX LIST] "groups that will be run as of the init containers";
        KaReqPodInitContainersProcMount "ka.req.pod.initContainers.proc_mount" Charbuf Dec [ARG_ALLOWED INDEX LIST] "procMount of the init containers";
        KaReqPodInitContainersAddCapabilities "ka.req.pod.initContainers.add_capabilities" Charbuf Dec [ARG_ALLOWED INDEX LIST] "added capabilities of the init containers";
        KaReqPodInitContainersHostPort "ka.req.pod.initContainers.host_port" Charbuf Dec [ARG_ALLOWED INDEX LIST] "host ports of the init containers";
        KaReqPodEphemeralContainersName "ka.req.pod.ephemeralContainers.name" Charbuf Dec [ARG_ALLOWED INDEX LIST] "names of the ephemeral containers";
        KaReqPodEphemeralContainersImage "ka.req.pod.ephemeralContainers.image" Charbuf Dec [ARG_ALLOWED INDEX LIST] "images of the ephemeral containers";
        KaReqPodEphemeralContainersImageRepository "ka.req.pod.ephemeralContainers.image.repository" Charbuf Dec [ARG_ALLOWED INDEX LIST] "images without tag and digest of the ephemeral containers";
        KaReqPodEphemeralContainersCommand "ka.req.pod.ephemeralContainers.command" Charbuf Dec [ARG_ALLOWED INDEX LIST] "commands of the ephemeral containers";
        KaReqPodEphemeralContainersArgs "ka.req.pod.ephemeralContainers.args" Charbuf Dec [ARG_ALLOWED INDEX LIST] "arguments of the ephemeral containers";
        KaReqPodEphemeralContainersPrivileged "ka.req.pod.ephemeralContainers.privileged" Charbuf Dec [ARG_ALLOWED INDEX LIST] "privileged flags of the ephemeral containers";
        KaReqPodEphemeralContainersAllowPrivilegeEscalation "ka.req.pod.ephemeralContainers.allow_privilege_escalation" Charbuf Dec [ARG_ALLOWED INDEX LIST] "flags that allow to gain privileges of the ephemeral containers";
        KaReqPodEphemeralContainersReadOnlyFs "ka.req.pod.ephemeralContainers.read_only_fs" Charbuf Dec [ARG_ALLOWED INDEX LIST] "flags that make root file systems read-only of the ephemeral containers";
        KaReqPodEphemeralContainersRunAsUser "ka.req.pod.ephemeralContainers.run_as_user" Charbuf Dec [ARG_ALLOWED INDEX LIST] "users of the ephemeral containers";
        KaReqPodEphemeralContainersEffRunAsUser "ka.req.pod.ephemeralContainers.eff_run_as_user" Charbuf Dec [ARG_ALLOWED INDEX LIST] "users that will be run as of the ephemeral containers";
        KaReqPodEphemeralContainersRunAsGroup "ka.req.pod.ephemeralContainers.run_as_group" Charbuf Dec [ARG_ALLOWED INDEX LIST] "groups of the ephemeral containers";
        KaReqPodEphemeralContainersEffRunAsGroup "ka.req.pod.ephemeralContainers.eff_run_as_group" Charbuf Dec [ARG_ALLOWED INDEX LIST] "groups that will be run as of the ephemeral containers";
        KaReqPodEphemeralContainersProcMount "ka.req.pod.ephemeralContainers.proc_mount" Charbuf Dec [ARG_ALLOWED INDEX LIST] "procMount of the ephemeral containers";
        KaReqPodEphemeralContainersAddCapabilities "ka.req.pod.ephemeralContainers.add_capabilities" Charbuf Dec [ARG_ALLOWED INDEX LIST] "added capabilities of the ephemeral containers";
    }
    Json {
        JsonValue "json.value" Charbuf Dec [ARG_REQUIRED KEY] "value in the event's JSON, by JSON pointer";
        JsonObj "json.obj" Charbuf Dec [] "the event's JSON, formatted";
        JsonRawtime "json.rawtime" Charbuf Dec [] "time of the event in nanoseconds";
        JevtValue "jevt.value" Charbuf Dec [ARG_REQUIRED KEY] "value in the event's JSON, by JSON pointer";
        JevtObj "jevt.obj" Charbuf Dec [] "the event's JSON, formatted";
        JevtRawtime "jevt.rawtime" Charbuf Dec [] "time of the event in nanoseconds";
    }
}
