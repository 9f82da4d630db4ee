"""`python -m provider_agent` is the same as `provider-agent`."""

from provider_agent.cli.main import main

if __name__ == "__main__":
    main()
