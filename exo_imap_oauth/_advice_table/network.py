"""What the way to a server says, in the order of matching."""

from __future__ import annotations

from typing import Final

from exo_imap_oauth._advice_table.row import IMAP_URL, IN_IMAP, Row

_NETWORK_URL: Final = (
    "https://learn.microsoft.com/microsoft-365/enterprise/urls-and-ip-address-ranges"
)
_TLS_URL: Final = "https://docs.python.org/3/library/ssl.html#verifying-certificates"

# Whatever the client and its system are written in; numbers, where they speak its user's language.
_UNREACHABLE: Final = (
    r"Connection refused|actively refused it|Name or service not known|nodename nor servname|"
    r"name resolution|NameResolutionError|getaddrinfo failed|No address associated with|"
    r"Name does not resolve|No such host|(?:Network|Host) is (?:unreachable|down)|"
    r"unreachable (?:network|host)|No route to host|Connection (?:reset by peer|aborted|timed out)|"
    r"forcibly closed|(?:Connect|Read|connect|i/o) ?time(?:d )?out|operation timed out|"
    r"(?:^|Error: |Error\('|timeout: )timed out|Failed to establish a new connection|"
    r"Remote end closed connection|connect to proxy|Tunnel connection failed|"
    r"EOF occurred in violation of protocol|did not properly respond|UnknownHostException|"
    r"\bE(?:CONNREFUSED|CONNRESET|TIMEDOUT|HOSTUNREACH|NETUNREACH)\b|\bE(?:NOTFOUND|AI_AGAIN)\b|"
    r"\bErrno (?:101|104|110|111|113)\b|\bWinError (?:10051|10054|10060|10061|10065|11001)\b"
)
_UNTRUSTED: Final = (
    r"certificate verify failed|(?:Hostname|IP address) mismatch, certificate is not valid|"
    r"PKIX path building failed|unable to find valid certification path|"
    r"x509: certificate (?:signed by unknown authority|has expired|is (?:valid for|not))|"
    r"unable to (?:verify the first|get local issuer) certificate|"
    r"UNABLE_TO_(?:VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT)|self[-\s_]signed cert|"
    r"ERR_TLS_CERT_ALTNAME_INVALID|\bCERT_HAS_EXPIRED\b|"
    r"remote certificate (?:is invalid|was rejected)|SSL certificate could not be validated"
)
_NO_TLS: Final = (
    r"wrong version number|unrecognized SSL message|does not look like a TLS handshake|"
    r"Cannot determine the frame size|unexpected packet format|record layer failure"
)

# Short fields share a line, so that a row is seen at a glance: hence no formatting at the end.
NETWORK: Final = (
    Row(
        id="wrong-port", stages=("authenticate",), url=IMAP_URL,
        words=r"\+OK\b[^\r\n]{0,200}POP|"
        r"(?:^|[\x20':])220[\x20-]\S{1,200} [^\r\n]{0,200}\b(?:E?SMTP|MAIL Service)\b",
        vague=r"(?:^|')(?:\+OK\b|220[\x20-]\S|SSH-2\.0-)",
        cause="Another service than IMAP answers[ at {server}], mostly POP or SMTP: the port is"
        " not that of IMAP.",
        fix="Write port 993, with implicit TLS (ssl = true in a cmsbs-conf), and the host"
        " {imap_host}. Ports 995 and 110 are those of POP; 587, 465 and 25 those of SMTP.",
    ),
    Row(
        id="certificate-untrusted", stages=("token", *IN_IMAP), url=_TLS_URL,
        words=_UNTRUSTED,
        cause="The certificate of the server[ {server}] cannot be verified: it is for another host,"
        " has expired by the clock of this machine, or comes from an authority that is not trusted"
        " here, such as that of a proxy which inspects TLS.",
        fix="Compare the host name and look at the certificate. Where a proxy of your own"
        " organization issues it, add its CA to the system's store or name it in SSL_CERT_FILE;"
        " do not switch verification off.",
        commands=("openssl s_client -connect {server} -showcerts",),
    ),
    Row(
        id="token-endpoint-unreachable", vague=f"{_UNREACHABLE}|{_NO_TLS}", url=_NETWORK_URL,
        retryable=True,
        cause="No usable answer from the token endpoint[ {token_uri}]: no network, a firewall or"
        " proxy in between, a wrong host name, or an outage.",
        fix="Allow outgoing HTTPS (port 443) to it from this machine; where a proxy is required,"
        " name it in the environment variable HTTPS_PROXY.",
    ),
    Row(
        id="imap-unreachable", vague=_UNREACHABLE, stages=("authenticate",), url=_NETWORK_URL,
        retryable=True,
        cause="No connection to the server[ {server}]: no network, a firewall in between, or a"
        " wrong host name or port.",
        fix="Allow outgoing TCP to it from this machine. Exchange Online has port 993 alone; port"
        " 143 with STARTTLS is for other servers.",
        commands=("openssl s_client -connect {server}",),
    ),
)  # fmt: skip

# ---- in place of a row, where more is known than its id tells --------------------------------

PLAIN_TEXT: Final = Row(
    id="imap-unreachable", vague=_NO_TLS, stages=("authenticate",), url=IMAP_URL, retryable=True,
    cause="The server[ {server}] is reached, but answered in plain text where TLS should begin."
    " Exchange Online does so at times; if it always happens, the port is one that begins without"
    " TLS, or a proxy stands in between.",
    fix="Try again after a pause. If it always happens, write port 993 with implicit TLS (ssl ="
    " true in a cmsbs-conf); port 143 is for STARTTLS (ssl = tls), which Exchange Online does not"
    " have.",
    commands=("openssl s_client -connect {server}",),
)  # fmt: skip

_SILENT: Final = Row(
    id="imap-unreachable", needs="silent", url=_NETWORK_URL, retryable=True,
    cause="The server[ {server}] was connected, and then did not answer any more: it is"
    " overloaded, the network was lost, or a firewall in between forgot the connection.",
    fix="Connect again, with growing pauses. If it happens after quiet times, have the firewall"
    " keep idle connections, or ask the server more often.",
    commands=("openssl s_client -connect {server}",),
)  # fmt: skip

_NO_XOAUTH2: Final = Row(
    id="wrong-port", needs="offered", url=IMAP_URL,
    cause="The server[ {server}] speaks IMAP, but offers {offered} instead of XOAUTH2, so it is not"
    " Exchange Online: it is another provider's, an Exchange Server of your own, or a mail proxy"
    " or virus scanner in between.",
    fix="Write the host {imap_host} and the port 993. If that is what is written, find out who"
    " answers in its place: the certificate names it.",
    commands=("openssl s_client -connect {server} -showcerts",),
)  # fmt: skip

_BUNDLE: Final = Row(
    id="certificate-untrusted",
    needs="bundle bundle_variable",
    url=_TLS_URL,
    cause="{bundle_variable} names {bundle}, which cannot be read as a file of CA certificates:"
    " it does not exist, this user may not read it, or it holds no certificate in PEM form. So the"
    " CAs that it should hold are not trusted.",
    fix="Correct the path in {bundle_variable}, or unset the variable. A relative path begins at"
    " the working directory of the program.",
)

INSTEAD: Final = (_SILENT, _NO_XOAUTH2, _BUNDLE)

_PROXY: Final = "The proxy[ {proxy}][, which {proxy_variable} names,]"
PROXY: Final = {
    "": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL, retryable=True,
        cause=f"{_PROXY} gave no usable answer: its address is wrong, it does not run, or it cannot"
        " reach the token endpoint[ {token_uri}].",
        fix="Check the address of the proxy[ in {proxy_variable}], and ask whoever runs it whether"
        " it can reach the host[ {server}]. Where this machine needs no proxy, name the host in"
        " NO_PROXY.",
    ),
    "403": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL,
        cause=f"{_PROXY} does not allow the connection to the token endpoint[ {{token_uri}}].",
        fix="Ask whoever runs the proxy to allow the host[ {server}].",
    ),
    "407": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL,
        cause=f"{_PROXY} wants a user and a password: none are given, or it does not accept them.",
        fix="Write both into the URL of the proxy[ in {proxy_variable}], percent-encoded[:"
        " http://user:password@{proxy}]. A proxy that accepts only NTLM, Kerberos or Digest needs"
        " a helper beside the program, such as px or cntlm.",
    ),
    "malformed": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL,
        cause="The value[ of {proxy_variable}] is not the URL of an HTTP proxy.",
        fix="Write it as http://proxy.example:8080, or with a user and a password, percent-encoded,"
        " as http://user:password@proxy.example:8080. SOCKS is not supported.",
    ),
}  # fmt: skip
