"""`python -m rlx.envs` lists the names of all environments, without starting any simulator."""

from __future__ import annotations

from rlx.envs import names


def main() -> None:
    for title, members in names.FAMILIES.items():
        print(f"{title} ({len(members)})")
        for name in members:
            print(f"  {name}")


if __name__ == "__main__":
    main()
