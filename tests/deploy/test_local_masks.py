"""The sites of a local federation pin each other's keys for sums; each has one secret, its own."""

from pathlib import Path

from sordino_client.synthesis.mask_keys import load_mask_keys
from sordino_deploy.local import LocalFederation, LocalSite

NAMES = ("a", "b", "c")


def test_each_site_pins_the_others_and_holds_one_private_key(tmp_path: Path) -> None:
    records = tmp_path / "records.csv"
    records.write_text("age\n1\n")
    sites = [LocalSite(name, "", records, None) for name in NAMES]
    federation = LocalFederation(tmp_path / "federation", sites)
    try:
        federation.prepare()
        public = dict[str, bytes]()
        for name in NAMES:
            config = federation.layout.site_config(name)
            assert config.site.mask_key is not None
            keys = load_mask_keys(config.site.mask_key, config.peers, site=name)
            assert set(keys.peers) == set(NAMES) - {name}
            public[name] = keys.key.public_key().public_bytes_raw()
            assert len(list(federation.layout.site(name).rglob("*.mask.key"))) == 1
            for peer, key in keys.peers.items():
                known = public.setdefault(peer, key.public_bytes_raw())
                assert known == key.public_bytes_raw()
        assert len(set(public.values())) == len(NAMES)
    finally:
        federation.close()
