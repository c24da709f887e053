from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from poolproject.views import think

admin.site.site_header = "pooling"
admin.site.site_title = "pooling"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="users:login"), name="home"),
    path("admin/", admin.site.urls),
    path("pooling/", include("pooling.urls")),
    path("", include("users.urls")),
]

if settings.DEBUG:  # it takes a thread for 200 ms, and is open to everybody
    urlpatterns.append(path("think/", think, name="think"))
