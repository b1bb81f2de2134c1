"""Certificates made for a test: private authorities, and what they sign for servers."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """An authority whose certificate is the file `path`: its own issuer, unless another one is given."""

    def __init__(self, folder: Path, name: str = "private", issuer: "Authority | None" = None) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
        self._key = ec.generate_private_key(ec.SECP256R1())
        signing = issuer or self
        certificate = (
            _valid(-DAY, DAY)
            .subject_name(self._name)
            .issuer_name(signing._name)
            .public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signing._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.pem)

    def server(self, *names: str, ended: bool = False, common_name: str = "x", chain: bytes = b"") -> ssl.SSLContext:
        """Return what a server of these names (or addresses) speaks TLS with; `ended` says that its day is over."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _valid(-2 * DAY, -DAY if ended else DAY)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return _context(self._folder, key, builder.sign(self._key, hashes.SHA256()), chain)

    def revoked(self) -> bytes:
        """Return its list of revoked certificates, in PEM, which is empty."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(now).next_update(now + DAY)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def self_signed(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """Return the same for a server that has signed its certificate itself, and the file that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _valid(-DAY, DAY)
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([_name(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "self-signed.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return _context(folder, key, certificate, b""), path


def _valid(begin: datetime.timedelta, end: datetime.timedelta) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    number = x509.random_serial_number()
    return x509.CertificateBuilder().serial_number(number).not_valid_before(now + begin).not_valid_after(now + end)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _context(
    folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, chain: bytes
) -> ssl.SSLContext:
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / f"{certificate.serial_number}.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem) + chain
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
