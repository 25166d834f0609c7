"""What is known of programs: the options with which they only read, and the few that run nothing else whatever they are given.

Everything here is a list of what is understood. A program or option that is missing makes a command unknown, never allowed.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from otel_runtime.policy.shell_options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GIT", "LAUNCHERS", "PLAIN", "QUIET"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _options(
    flags: str = "", valued: str = "", long: str = "", long_valued: str = "", operands: int = 1 << 16, *, number: bool = False
) -> Options:
    return Options(flags, valued, _words(long), _words(long_valued), operands, number)


_SUM: Final = _options("bctz", "", "binary check text zero quiet status strict warn ignore-missing")
_GREP: Final = _options(
    "EFGPivwxcLloqsbHhnTUaIrRyz",
    "efmABCdD",
    "extended-regexp fixed-strings basic-regexp perl-regexp ignore-case no-ignore-case invert-match word-regexp line-regexp count color= colour= "
    "files-without-match files-with-matches only-matching quiet silent no-messages byte-offset with-filename no-filename line-number "
    "initial-tab null null-data text recursive dereference-recursive line-buffered",
    "regexp file max-count after-context before-context context include exclude exclude-from exclude-dir binary-files directories devices label",
    number=True,
)

# Programs that neither write nor run anything with these options.
PLAIN: Final[Mapping[str, Options]] = MappingProxyType(
    {
        "basename": _options("az", "s", "multiple zero", "suffix"),
        "base64": _options("di", "w", "decode ignore-garbage", "wrap", 1),
        "cat": _options("AbeEnstTuv", "", "show-all number-nonblank show-ends number squeeze-blank show-tabs show-nonprinting"),
        "cd": _options("LP", operands=1),
        "cksum": _options(),
        "cmp": _options("bls", "in", "print-bytes verbose quiet silent", "ignore-initial bytes", 4),
        "comm": _options("123z", "", "check-order nocheck-order total zero-terminated", "output-delimiter", 2),
        "cut": _options("snz", "bcdf", "only-delimited zero-terminated complement", "bytes characters delimiter fields output-delimiter"),
        "date": _options("uR", "d", "utc universal rfc-email iso-8601=", "date rfc-3339"),
        "df": _options(
            "aBhHiklPT", "tx", "all human-readable si inodes local portability total print-type", "type exclude-type block-size"
        ),
        "diff": _options(
            "qsceuyrNiEbBwatTdp",
            "CUWxFI",
            "brief report-identical-files normal unified= context= side-by-side recursive new-file ignore-case ignore-tab-expansion "
            "ignore-space-change ignore-all-space ignore-blank-lines text expand-tabs minimal color= suppress-common-lines no-dereference "
            "strip-trailing-cr left-column",
            "width exclude label",
            2,
        ),
        "dirname": _options("z", "", "zero"),
        "du": _options(
            "aAbchHklLmPsSx0",
            "dtB",
            "all apparent-size bytes total human-readable summarize one-file-system separate-dirs null si",
            "max-depth threshold block-size exclude",
        ),
        "echo": _options(),
        "egrep": _GREP,
        "false": _options(),
        "fgrep": _GREP,
        "file": _options("bhikLN", "", "brief mime mime-type mime-encoding dereference no-dereference keep-going"),
        "fold": _options("bs", "w", "bytes spaces", "width"),
        "grep": _GREP,
        "head": _options("qvz", "cn", "quiet silent verbose zero-terminated", "bytes lines", number=True),
        "hexdump": _options("bcCdovx", "ns"),
        "id": _options("agGnruzZ", "", "group groups name real user zero"),
        "jq": _options(
            "nrcseSajCM",
            "",
            "null-input raw-output compact-output slurp exit-status sort-keys ascii-output join-output tab seq "
            "raw-input color-output monochrome-output",
            "indent",
        ),
        "ls": _options(
            "aAbBcCdfFgGhHiklLmnNopqQrRsStTuUvxXZ1",
            "Iw",
            "all almost-all author escape ignore-backups color= directory classify= file-type full-time group-directories-first no-group "
            "human-readable si dereference indicator-style= inode numeric-uid-gid literal hide-control-chars quote-name reverse recursive size "
            "zero",
            "block-size hide ignore sort time time-style width format quoting-style",
        ),
        "md5sum": _SUM,
        "nl": _options("p", "bdfhilnsvw", "no-renumber", "body-numbering number-format number-separator number-width starting-line-number"),
        "nproc": _options("", "", "all", "ignore"),
        "od": _options("bcdfilosvx", "AjNStw", "output-duplicates", "address-radix skip-bytes read-bytes format width strings"),
        "printenv": _options("0", "", "null"),
        "printf": _options(),
        "pwd": _options("LP", "", "logical physical", "", 0),
        "readlink": _options(
            "efmnqsvz", "", "canonicalize canonicalize-existing canonicalize-missing no-newline quiet silent verbose zero"
        ),
        "realpath": _options(
            "eLmPqsz",
            "",
            "canonicalize-existing canonicalize-missing logical physical quiet strip no-symlinks zero",
            "relative-to relative-base",
        ),
        "rev": _options(),
        "rg": _options(
            "nNilcwFvSsouHILUqx0p",
            "egtTABCmrjEM",
            "line-number no-line-number ignore-case files-with-matches files-without-match count count-matches word-regexp fixed-strings "
            "invert-match smart-case case-sensitive only-matching files hidden no-ignore no-ignore-vcs no-heading heading json stats multiline "
            "vimgrep with-filename no-filename type-list trim null column no-messages unrestricted quiet line-regexp",
            "regexp glob iglob type type-not after-context before-context context max-count max-depth sort sortr color encoding max-columns",
        ),
        "sha1sum": _SUM,
        "sha256sum": _SUM,
        "sha512sum": _SUM,
        "sort": _options(
            "bdfghiMnRrVcCmsuz",
            "ktS",
            "ignore-leading-blanks dictionary-order ignore-case general-numeric-sort human-numeric-sort month-sort numeric-sort reverse "
            "version-sort check= merge stable unique zero-terminated random-sort",
            "key field-separator buffer-size sort parallel",
        ),
        "stat": _options("fLt", "c", "dereference file-system terse", "format printf"),
        "tac": _options("br", "s", "before regex", "separator"),
        "tail": _options("qvz", "cn", "quiet silent verbose zero-terminated", "bytes lines", number=True),
        "tr": _options("cCdst", "", "complement delete squeeze-repeats truncate-set1", "", 2),
        "tree": _options("adfhilDFpsugrtvCnJX", "LIP", "noreport dirsfirst gitignore prune du si inodes device", "filelimit charset"),
        "true": _options(),
        "uname": _options("asrnmpio", "", "all kernel-name nodename kernel-release machine operating-system", "", 0),
        # A second operand is written to.
        "uniq": _options("cdDiuz", "fsw", "count repeated ignore-case unique zero-terminated", "skip-fields skip-chars check-chars", 1),
        "wc": _options("clmLw", "", "bytes chars lines words max-line-length", "total"),
        "which": _options("a", "", "all"),
        "whoami": _options(operands=0),
    }
)

_SHOWN: Final = (
    "stat= shortstat numstat name-only name-status patch no-patch summary raw color= no-color oneline abbrev-commit no-abbrev-commit decorate= "
    "no-decorate graph all branches= tags= remotes= merges no-merges first-parent reverse follow full-history cached staged word-diff= minimal "
    "patience histogram ignore-all-space ignore-space-change ignore-blank-lines ignore-space-at-eol exit-code quiet check full-index binary "
    "abbrev= no-ext-diff no-textconv no-renames find-renames= find-copies= compact-summary dirstat= patch-with-stat topo-order date-order "
    "no-prefix no-index cherry left-right left-only right-only cherry-pick simplify-merges no-notes no-walk= "
    "regexp-ignore-case extended-regexp fixed-strings perl-regexp all-match invert-grep pretty= relative= merge-base text root"
)
_LOG: Final = _options(
    "pszgiEFPwbauM",
    "nSGLU",
    _SHOWN,
    "max-count skip since after until before author committer grep format date unified diff-filter inter-hunk-context diff-algorithm",
    number=True,
)
# Subcommands of git that only read, with their options; git takes abbreviations of long ones, too.
GIT: Final[Mapping[str, Options]] = MappingProxyType(
    {
        "blame": _options("wMCsleftn", "L", "porcelain line-porcelain show-email date= root", "since date"),
        "branch": _options("arvl", "", "all remotes list verbose show-current no-color", "", 0),
        "cat-file": _options("ptes", "", "", "", 2),
        "describe": _options("", "", "tags all long always dirty= contains abbrev=", "match exclude candidates"),
        "diff": _LOG,
        "grep": _options(
            "nilcwvEFPGohHaIqz",
            "eABCm",
            "line-number ignore-case files-with-matches name-only count word-regexp invert-match extended-regexp "
            "fixed-strings perl-regexp cached untracked no-index heading break and or not all-match quiet color=",
            "after-context before-context context max-depth",
            number=True,
        ),
        "log": _LOG,
        "ls-files": _options("cdmoskutvz", "xX", "cached deleted modified others stage unmerged exclude-standard full-name", "exclude"),
        "ls-tree": _options("drtlz", "", "name-only name-status long full-name full-tree abbrev="),
        "merge-base": _options("a", "", "all octopus independent is-ancestor fork-point"),
        "name-rev": _options("", "", "name-only tags always"),
        "remote": _options("v", "", "verbose", "", 0),
        "rev-list": _options(
            "n", "", "count all max-count= no-merges merges first-parent reverse left-right", "max-count since until author", number=True
        ),
        "rev-parse": _options(
            "q",
            "",
            "abbrev-ref= show-toplevel show-prefix show-cdup git-dir is-inside-work-tree is-bare-repository short= "
            "verify quiet symbolic-full-name absolute-git-dir",
        ),
        "shortlog": _options("snec", "", "summary numbered email committer all no-merges", "since until"),
        "show": _LOG,
        "status": _options(
            "sbvuz", "", "short branch long porcelain= verbose untracked-files= ignored= no-renames ahead-behind no-ahead-behind"
        ),
        "tag": _options("l", "", "list no-color", "sort points-at contains merged", 0),
    }
)

# Programs that write but run nothing else, whatever their options.
QUIET: Final = _words("chgrp chmod chown cp ln mkdir mkfifo mv rm rmdir shred tee touch truncate unlink")

# Programs whose business is to run others: to list them in `runs_only` would mean to list everything.
LAUNCHERS: Final = _words(
    ". alias ash awk bash builtin busybox chroot chrt cmd command compgen coproc csh dash doas env eval exec expect fish flock gawk hash ionice "
    "ksh mawk nawk nice nohup osascript parallel pkexec powershell pwsh script setarch setsid sh source stdbuf strace su sudo taskset time "
    "timeout toybox trap unshare watch xargs xterm zsh"
)
