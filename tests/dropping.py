"""Source for programs that give up root's privileges in mid-run, as servers do.

A user may not be able to run the interpreter where only root may enter its folder (a home): the
program then shows the way to it, in a mount name space of its own.
"""

DROP = """
        import ctypes, os, sys
        import offloop

        libc = ctypes.CDLL(None, use_errno=True)

        def mount(source, target, kind, flags, options=None):
            arguments = [text and os.fsencode(text) for text in (source, target, kind)]
            if libc.mount(*arguments, ctypes.c_ulong(flags), options) != 0:
                raise OSError(ctypes.get_errno(), "mount", target)

        def closed_folders():
            closed = {}
            for file in (sys.executable, os.path.realpath(sys.executable), offloop.__file__):
                folder, below = os.path.split(os.path.abspath(file))
                while below:
                    if not os.stat(folder).st_mode & 1:
                        closed.setdefault(folder, set()).add(below)
                    folder, below = os.path.split(folder)
            return sorted(closed.items())

        def show_the_way():
            BIND, PRIVATE = 4096, (1 << 18) | 16384
            closed = closed_folders()
            if not closed:
                return
            if libc.unshare(0x20000) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            mount("none", "/", None, PRIVATE)
            for folder, names in closed:
                kept = [(name, os.open(f"{folder}/{name}", os.O_PATH)) for name in names]
                mount("none", folder, "tmpfs", 0, b"mode=755")
                for name, descriptor in kept:
                    os.mkdir(f"{folder}/{name}")
                    mount(f"/proc/self/fd/{descriptor}", f"{folder}/{name}", None, BIND)

        def drop():
            if os.geteuid() == 0:
                os.setgroups([12345])
                os.setgid(12346)
                os.setuid(12347)

        def who():
            return os.getresuid(), os.getresgid(), os.getgroups()

        if os.geteuid() == 0:
            show_the_way()
"""
