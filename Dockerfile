FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY gpt_oss_proxy gpt_oss_proxy
COPY wsgi.py gunicorn.conf.py ./
# nobody may write here, so what is compiled at a start could not be kept for the next one
RUN python -m compileall -q gpt_oss_proxy wsgi.py
USER nobody
EXPOSE 3000
STOPSIGNAL SIGTERM
# http.client, because urllib would ask the proxy that HTTP_PROXY names
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "import http.client, os; asked = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 3000), timeout=4); asked.request('GET', '/healthz'); raise SystemExit(asked.getresponse().status != 200)"]
# exec form: gunicorn gets SIGTERM itself, and lets running streams finish for 30 s: docker stop -t 40
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
