"""gpt_oss_proxy: one OpenAI API over upstreams that speak something else."""

__version__ = "0.1.0"
